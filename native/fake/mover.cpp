// The fake mover as the JavaScript thread sees it. courier.cpp has its thread.
#include "mover.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "board.h"

namespace kvferry {
namespace {

std::unique_lock<std::mutex> lock_board() { return std::unique_lock<std::mutex>(FakeBoard::instance().mutex); }

}  // namespace

FakeLane::FakeLane(FakeConnection& owner, uint32_t index, const uint8_t* bytes) : LaneEnd(index), connection(owner) {
  memcpy(token.data(), bytes, token.size());
}

void FakeLane::wake() { connection.mover.post(FakeMover::Task::carry, nullptr, shared_from_this()); }

void MessageQueue::push(std::vector<uint8_t>&& message) {
  bytes += message.size();
  messages.push_back(std::move(message));
}

std::vector<uint8_t> MessageQueue::pop() {
  std::vector<uint8_t> message = std::move(messages.front());
  messages.pop_front();
  bytes -= message.size();
  return message;
}

FakeConnection::FakeConnection(uint64_t id, FakeMover& owner, bool initiates, const Endpoint& endpoint)
    : Exchange(id, owner.events(), owner.bounds, false), mover(owner), initiator(initiates), remote(endpoint) {}

FakeMover::FakeMover(const Bounds& bounds, EventQueue::Callback wake) : Mover(bounds, std::move(wake)) {}

FakeMover::~FakeMover() { close(); }

Failure FakeMover::listen(const std::string& host, uint16_t port, Endpoint* bound) {
  const auto lock = lock_board();
  FakeBoard& board = FakeBoard::instance();
  if (closed_) return {Code::closed, ""};
  *bound = {host, port == 0 ? board.free_port(host) : port};
  if (bound->port == 0) return {Code::address_unavailable, "no port is free"};
  if (!board.listeners.emplace(FakeBoard::key(*bound), this).second) return {Code::address_unavailable, "the address is in use"};
  return {};
}

uint64_t FakeMover::open() {
  const auto lock = lock_board();
  const std::shared_ptr<FakeConnection> connection = closed_ ? nullptr : create(true, {});
  return connection == nullptr ? 0 : connection->id;
}

void FakeMover::dial(uint64_t id, const std::vector<std::string>& hosts, uint16_t port, uint32_t, const std::string&) {
  const auto lock = lock_board();
  const std::shared_ptr<FakeConnection> connection = find(id);
  if (connection == nullptr || connection->ended || connection->peer != nullptr) return;
  connection->remote = {hosts.empty() ? "" : hosts.front(), port};
  const auto refuse = [&](const char* why) {
    events_.release(Quota::table);
    end(*connection, Code::connect_failed, why);
  };
  FakeBoard& board = FakeBoard::instance();
  const auto found = board.listeners.find(FakeBoard::key(connection->remote));
  if (found == board.listeners.end()) return refuse("nobody listens there");
  const std::shared_ptr<FakeConnection> other = found->second->create(false, {"fake", 0});
  if (other == nullptr) return refuse("the listener takes no more connections");
  connection->peer = other.get();
  other->peer = connection.get();
  Event event;
  event.kind = EventKind::accepted;
  event.subject = double(other->id);
  found->second->events_.emit(Quota::table, event);
  event.kind = EventKind::connected;
  event.subject = double(id);
  events_.emit(Quota::table, event);
}

void FakeMover::abandon(uint64_t id, Code code, const std::string& detail) {
  const auto lock = lock_board();
  const std::shared_ptr<FakeConnection> connection = find(id);
  if (connection == nullptr || connection->ended || connection->peer != nullptr) return;
  events_.release(Quota::table);
  end(*connection, code, detail);
}

Failure FakeMover::admit_lanes(uint64_t id, const uint8_t* token, const LaneOptions&) {
  const auto lock = lock_board();
  const std::shared_ptr<FakeConnection> connection = find(id);
  if (connection == nullptr) return {};
  memcpy(connection->token.data(), token, kTokenBytes);
  connection->admits = true;
  FakeConnection* const peer = connection->peer;
  if (peer == nullptr) return {};
  for (const std::shared_ptr<FakeLane>& lane : peer->lanes) peer->mover.post(Task::open_lane, peer->mover.find(peer->id), lane);
  return {};
}

Failure FakeMover::open_lane(uint64_t id, uint32_t index, const uint8_t* token, const LaneOptions&) {
  const auto lock = lock_board();
  const std::shared_ptr<FakeConnection> connection = find(id);
  if (connection == nullptr || connection->ended) return {};
  if (!connection->initiator) return {Code::invalid_argument, "lanes are opened by the side that dialled"};
  if (index >= bounds.lanes) return {Code::invalid_argument, "a lane beyond the limit"};
  for (const std::shared_ptr<FakeLane>& lane : connection->lanes) {
    if (lane->lane_index == index) return {Code::invalid_argument, "the lane is open"};
  }
  if (!events_.reserve(Quota::lane)) return {Code::full, "too many lanes"};
  if (!events_.reserve(Quota::lane)) {
    events_.release(Quota::lane);
    return {Code::full, "too many lanes"};
  }
  auto lane = std::make_shared<FakeLane>(*connection, index, token);
  connection->lanes.push_back(lane);
  post(Task::open_lane, connection, std::move(lane));
  return {};
}

void FakeMover::close_lane(uint64_t id, uint32_t index) {
  const auto lock = lock_board();
  const std::shared_ptr<FakeConnection> connection = find(id);
  if (connection == nullptr) return;
  for (const std::shared_ptr<FakeLane>& lane : connection->lanes) {
    if (lane->lane_index == index) post(Task::close_lane, connection, lane);
  }
}

bool FakeMover::send(uint64_t id, const uint8_t* message, size_t bytes) {
  const auto lock = lock_board();
  const std::shared_ptr<FakeConnection> connection = find(id);
  if (connection == nullptr || connection->peer == nullptr || connection->takes_no_more) return false;
  MessageQueue& outbox = connection->outbox;
  if (!outbox.messages.empty() && outbox.bytes + bytes > bounds.queue_bytes) {
    connection->was_full = true;
    return false;
  }
  outbox.push(std::vector<uint8_t>(message, message + bytes));
  deliver(*connection);
  return true;
}

void FakeMover::disconnect(uint64_t id) {
  std::shared_ptr<FakeConnection> connection;
  {
    const auto lock = lock_board();
    connection = find(id);
    if (connection == nullptr || connection->ended) return;
    connection->takes_no_more = true;
  }
  post(Task::disconnect, std::move(connection), nullptr);
}

std::vector<LaneInfo> FakeMover::lane_info(uint64_t id) {
  const auto lock = lock_board();
  std::vector<LaneInfo> infos;
  const std::shared_ptr<FakeConnection> connection = find(id);
  if (connection == nullptr) return infos;
  for (const std::shared_ptr<FakeLane>& lane : connection->lanes) {
    LaneInfo info;
    info.lane = lane->lane_index;
    info.bytes_sent = double(lane->bytes_sent.load());
    info.bytes_received = double(lane->bytes_received.load());
    info.congestion_control = "none";
    if (lane->pair != nullptr) infos.push_back(info);
  }
  return infos;
}

std::vector<uint8_t> FakeMover::message(uint64_t id) {
  const auto lock = lock_board();
  const std::shared_ptr<FakeConnection> connection = find(id);
  if (connection == nullptr || connection->inbox.messages.empty()) return {};
  std::vector<uint8_t> message = connection->inbox.pop();
  if (connection->peer != nullptr) deliver(*connection->peer);
  return message;
}

Endpoint FakeMover::remote(uint64_t id) {
  const auto lock = lock_board();
  const std::shared_ptr<FakeConnection> connection = find(id);
  return connection == nullptr ? Endpoint() : connection->remote;
}

std::shared_ptr<Exchange> FakeMover::exchange(uint64_t id) {
  const auto lock = lock_board();
  return find(id);
}

void FakeMover::forget(uint64_t id) {
  const auto lock = lock_board();
  connections_.erase(id);
}

std::shared_ptr<FakeConnection> FakeMover::find(uint64_t id) {
  const auto found = connections_.find(id);
  return found == connections_.end() ? nullptr : found->second;
}

std::shared_ptr<FakeConnection> FakeMover::create(bool initiator, const Endpoint& remote) {
  if (alive_ >= bounds.connections || !events_.reserve(Quota::table)) return nullptr;
  if (!events_.reserve(Quota::table)) {
    events_.release(Quota::table);
    return nullptr;
  }
  const uint64_t id = next_connection_++;
  auto connection = std::make_shared<FakeConnection>(id, *this, initiator, remote);
  connections_.emplace(id, connection);
  alive_ += 1;
  return connection;
}

}  // namespace kvferry
