#include "mover.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "control.h"
#include "greeting.h"
#include "lane.h"
#include "listener.h"

namespace kvferry {

TcpMover::TcpMover(const Bounds& bounds, uint32_t io_threads, EventQueue::Callback wake) : Mover(bounds, std::move(wake)), doorstep_(bounds.greetings) {
  for (uint32_t index = 0; index < std::max(1u, io_threads); index++) pollers_.push_back(std::make_unique<Poller>());
}

TcpMover::~TcpMover() { close(); }

bool TcpMover::start() {
  for (uint32_t index = 0; index < pollers_.size(); index++) {
    if (!pollers_[index]->start(index, &events_)) {
      close();
      return false;
    }
  }
  return true;
}

void TcpMover::close() {
  if (std::exchange(closed_, true)) return;
  events_.silence();
  // All threads end before any channel dies: a lane of one poller may post to a channel of another.
  greeter_.join();
  for (std::unique_ptr<Poller>& poller : pollers_) poller->join();
  greeter_.clear();
  for (std::unique_ptr<Poller>& poller : pollers_) poller->clear();
  for (auto& [id, connection] : connections_) connection->drop_channels();
  connections_.clear();
  tokens_.clear();
  held_.clear();
  drop_placements();
}

Failure TcpMover::listen(const std::string& host, uint16_t port, Endpoint* bound) {
  if (closed_) return {Code::closed, ""};
  Address address;
  if (!Address::parse(host, port, &address)) return {Code::invalid_argument, "not a numeric address: " + host};
  Failure failure;
  Stream stream(listen_on(address, &failure));
  if (stream.fd() < 0) return failure;
  if (!greets_ && !greeter_.start(uint32_t(pollers_.size()), &events_)) return {Code::unsupported, "no threads or descriptors to be had"};
  greets_ = true;
  *bound = Address::of_self(stream.fd()).endpoint();
  greeter_.attach(std::make_shared<Listener>(greeter_, *this, std::move(stream)));
  return {};
}

Failure TcpMover::set_tls(const TlsMaterial& material) {
  if (closed_) return {Code::closed, ""};
  Failure failure;
  std::shared_ptr<TlsContext> context = TlsContext::make(material, bounds.records_per_key, &failure);
  if (context == nullptr) return failure;
  std::lock_guard<std::mutex> lock(registry_);
  tls_ = std::move(context);
  return {};
}

std::shared_ptr<TlsContext> TcpMover::tls() {
  std::lock_guard<std::mutex> lock(registry_);
  return tls_;
}

uint64_t TcpMover::open() {
  if (closed_) return 0;
  const std::shared_ptr<TcpConnection> connection = create(true);
  return connection == nullptr ? 0 : connection->id;
}

void TcpMover::dial(uint64_t id, const std::vector<std::string>& hosts, uint16_t port, uint32_t timeout_ms, const std::string& identity) {
  const std::shared_ptr<TcpConnection> connection = find(id);
  if (connection == nullptr || closed_ || connection->is_gone()) return;
  std::vector<Address> addresses(hosts.size());
  for (size_t index = 0; index < hosts.size(); index++) {
    if (!Address::parse(hosts[index], port, &addresses[index])) return abandon(id, Code::connect_failed, "not a numeric address: " + hosts[index]);
  }
  if (addresses.empty()) return abandon(id, Code::connect_failed, "no address");
  Poller& poller = this->poller(connection->first_poller);
  connection->set_remote(addresses.front());
  connection->set_expected(identity);
  auto control = std::make_shared<ControlChannel>(poller, connection, std::move(addresses), std::max(1u, timeout_ms));
  connection->set_control(control);
  if (hosts.size() == 1) connection->set_stage(TcpConnection::Stage::dialing);
  poller.attach(std::move(control));
}

void TcpMover::abandon(uint64_t id, Code code, const std::string& detail) {
  const std::shared_ptr<TcpConnection> connection = find(id);
  // One without a control channel may have had one, and wait for its lanes.
  if (connection == nullptr || closed_ || connection->control() != nullptr || connection->is_ending()) return;
  events_.release(Quota::table);
  connection->control_closed(code, detail);
}

Failure TcpMover::admit_lanes(uint64_t id, const uint8_t* bytes, const LaneOptions& options) {
  Token token;
  memcpy(token.data(), bytes, token.size());
  std::lock_guard<std::mutex> lock(registry_);
  const auto found = connections_.find(id);
  if (found == connections_.end() || found->second->ended) return {};
  const auto known = tokens_.find(token);
  if (known != tokens_.end() && known->second != id) return {Code::invalid_argument, "the token belongs to another connection"};
  std::erase_if(tokens_, [&](const auto& entry) { return entry.second == id; });
  tokens_.emplace(token, id);
  found->second->accepted_lanes = options;
  found->second->admit();
  const auto [first, last] = held_.equal_range(token);
  for (auto lane = first; lane != last; lane++) lane->second->post(request::kRead);
  held_.erase(first, last);
  return {};
}

Failure TcpMover::open_lane(uint64_t id, uint32_t index, const uint8_t* token, const LaneOptions& options) {
  const std::shared_ptr<TcpConnection> connection = find(id);
  if (connection == nullptr || closed_ || connection->is_gone()) return {};
  if (!connection->initiator) return {Code::invalid_argument, "lanes are opened by the side that dialled"};
  if (index >= bounds.lanes) return {Code::invalid_argument, "a lane beyond the limit"};
  if (!events_.reserve(Quota::lane)) return {Code::full, "too many lanes"};
  if (!events_.reserve(Quota::lane)) {
    events_.release(Quota::lane);
    return {Code::full, "too many lanes"};
  }
  Poller& poller = this->poller(connection->first_poller + index);
  auto lane = std::make_shared<TcpLane>(poller, connection, index, token, options);
  const bool known = connection->lane(index) != nullptr;
  if (!known && connection->add_lane(lane)) {
    poller.attach(std::move(lane));
    return {};
  }
  events_.release(Quota::lane);
  events_.release(Quota::lane);
  // An ending connection takes no lane, and says so with `disconnected`.
  return known ? Failure{Code::invalid_argument, "the lane is open"} : Failure{};
}

void TcpMover::tune_lane(uint64_t id, uint32_t index, const LaneOptions& options) {
  const std::shared_ptr<TcpConnection> connection = find(id);
  const std::shared_ptr<TcpLane> lane = connection == nullptr ? nullptr : connection->lane(index);
  if (lane != nullptr) lane->tune(options);
}

void TcpMover::close_lane(uint64_t id, uint32_t index) {
  const std::shared_ptr<TcpConnection> connection = find(id);
  const std::shared_ptr<TcpLane> lane = connection == nullptr ? nullptr : connection->lane(index);
  if (lane != nullptr) lane->close_asked();
}

void TcpMover::pad_lane(uint64_t id, uint32_t index, uint64_t bytes) {
  const std::shared_ptr<TcpConnection> connection = find(id);
  const std::shared_ptr<TcpLane> lane = connection == nullptr ? nullptr : connection->lane(index);
  if (lane != nullptr) lane->pad(bytes);
}

bool TcpMover::send(uint64_t id, const uint8_t* message, size_t bytes) {
  const std::shared_ptr<TcpConnection> connection = find(id);
  const std::shared_ptr<ControlChannel> control = connection == nullptr ? nullptr : connection->control();
  return control != nullptr && control->send(message, bytes);
}

void TcpMover::disconnect(uint64_t id) {
  const std::shared_ptr<TcpConnection> connection = find(id);
  if (connection == nullptr || closed_) return;
  const std::shared_ptr<ControlChannel> control = connection->control();
  if (control != nullptr) return control->disconnect();
  // Before `dial`: there is nothing to close.
  abandon(id, Code::closed, "");
}

std::vector<LaneInfo> TcpMover::lane_info(uint64_t id) {
  std::vector<LaneInfo> infos;
  const std::shared_ptr<TcpConnection> connection = find(id);
  if (connection == nullptr) return infos;
  for (const std::shared_ptr<TcpLane>& lane : connection->lanes()) {
    LaneInfo info;
    if (lane->info(&info)) infos.push_back(info);
  }
  return infos;
}

std::vector<uint8_t> TcpMover::message(uint64_t id) {
  const std::shared_ptr<TcpConnection> connection = find(id);
  return connection == nullptr ? std::vector<uint8_t>() : connection->next_message();
}

std::optional<TlsPeer> TcpMover::peer(uint64_t id) {
  const std::shared_ptr<TcpConnection> connection = find(id);
  return connection == nullptr ? std::nullopt : connection->peer();
}

Endpoint TcpMover::remote(uint64_t id) {
  const std::shared_ptr<TcpConnection> connection = find(id);
  return connection == nullptr ? Endpoint() : connection->remote().endpoint();
}

void TcpMover::adopt_control(Stream stream) {
  const std::shared_ptr<TcpConnection> connection = create(false);
  if (connection == nullptr) return refusals_.add(Refusal::full, Address::of_peer(stream.fd()).endpoint(), "too many connections");
  connection->set_remote(Address::of_peer(stream.fd()));
  if (stream.tls() != nullptr) connection->set_peer(stream.tls()->peer());
  Poller& poller = this->poller(connection->first_poller);
  auto control = std::make_shared<ControlChannel>(poller, connection, std::move(stream));
  connection->set_control(control);
  connection->emit(EventKind::accepted);
  poller.attach(std::move(control));
}

void TcpMover::adopt_lane(Stream stream, const Preamble& preamble) {
  Token token;
  memcpy(token.data(), preamble.token, token.size());
  std::shared_ptr<TcpConnection> connection;
  LaneOptions options;
  {
    std::lock_guard<std::mutex> lock(registry_);
    const auto found = tokens_.find(token);
    if (found == tokens_.end()) return;
    connection = connections_.at(found->second);
    options = connection->accepted_lanes;
  }
  if (!connection->is_of_peer(stream)) {
    return refusals_.add(Refusal::wrong_identity, Address::of_peer(stream.fd()).endpoint(), "a lane of another than its connection is of");
  }
  if (preamble.lane >= bounds.lanes || !events_.reserve(Quota::lane)) return;
  if (!events_.reserve(Quota::lane)) {
    events_.release(Quota::lane);
    return;
  }
  Poller& poller = this->poller(connection->first_poller + preamble.lane);
  auto lane = std::make_shared<TcpLane>(poller, connection, preamble.lane, std::move(stream), options);
  if (!connection->add_lane(lane)) {
    events_.release(Quota::lane);
    events_.release(Quota::lane);
    return;
  }
  poller.attach(std::move(lane));
}

bool TcpMover::hold_lane(Greeting& greeting, const Preamble& preamble) {
  Token token;
  memcpy(token.data(), preamble.token, token.size());
  std::lock_guard<std::mutex> lock(registry_);
  // Greetings of others keep half of the room.
  if (tokens_.contains(token) || held_.size() >= bounds.greetings / 2) return false;
  held_.emplace(token, greeting.shared_from_this());
  return true;
}

void TcpMover::let_go_of_lane(const Greeting& greeting) {
  std::lock_guard<std::mutex> lock(registry_);
  std::erase_if(held_, [&](const auto& entry) { return entry.second.get() == &greeting; });
}

void TcpMover::connection_ended(TcpConnection& connection) {
  std::lock_guard<std::mutex> lock(registry_);
  connection.ended = true;
  alive_ -= 1;
  std::erase_if(tokens_, [&](const auto& entry) { return entry.second == connection.id; });
}

std::shared_ptr<Exchange> TcpMover::exchange(uint64_t id) { return find(id); }

void TcpMover::forget(uint64_t id) {
  std::lock_guard<std::mutex> lock(registry_);
  connections_.erase(id);
}

void TcpMover::kick(Exchange& exchange) {
  // A small chunk goes out from here: waking a thread for it would take longer than sending it.
  const std::shared_ptr<LaneEnd> lane = exchange.idle_lane(kCopiedBytes);
  if (lane != nullptr) static_cast<TcpLane&>(*lane).send_inline();
  exchange.wake_lanes();
}

void TcpMover::refill() {
  for (std::unique_ptr<Poller>& poller : pollers_) poller->refill();
}

std::shared_ptr<TcpConnection> TcpMover::find(uint64_t id) {
  std::lock_guard<std::mutex> lock(registry_);
  const auto found = connections_.find(id);
  return found == connections_.end() ? nullptr : found->second;
}

std::shared_ptr<TcpConnection> TcpMover::create(bool initiator) {
  std::lock_guard<std::mutex> lock(registry_);
  if (alive_ >= bounds.connections || !events_.reserve(Quota::table)) return nullptr;
  if (!events_.reserve(Quota::table)) {
    events_.release(Quota::table);
    return nullptr;
  }
  const uint64_t id = next_connection_++;
  // Control channels of neighbours, and their first lanes, start on different threads.
  auto connection = std::make_shared<TcpConnection>(id, *this, initiator, uint32_t(id));
  connections_.emplace(id, connection);
  alive_ += 1;
  return connection;
}

}  // namespace kvferry
