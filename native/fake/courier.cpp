// The fake mover's thread, and how lanes and connections of two movers begin and end together.
#include <algorithm>
#include <chrono>
#include <csignal>
#include <utility>

#include "../core/clock.h"
#include "board.h"
#include "mover.h"

namespace kvferry {
namespace {

constexpr uint64_t kFlushUs = 1'000'000;
constexpr std::chrono::milliseconds kFinishingStep(10);

}  // namespace

bool FakeMover::start() {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  running_ = pthread_create(&courier_, nullptr, main, this) == 0;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return running_;
}

void FakeMover::close() {
  {
    FakeBoard& board = FakeBoard::instance();
    std::lock_guard<std::mutex> lock(board.mutex);
    if (std::exchange(closed_, true)) return;
    events_.silence();
    std::erase_if(board.listeners, [this](const auto& entry) { return entry.second == this; });
    // Nobody of another mover reaches in here any more after this; our own courier finds only dead pairs.
    for (auto& [id, connection] : connections_) end_pair(*connection, Code::closed, Code::connection_lost, "the peer's link was closed");
  }
  if (std::exchange(running_, false)) {
    {
      std::lock_guard<std::mutex> lock(posts_mutex_);
      stopping_ = true;
    }
    posts_ready_.notify_one();
    pthread_join(courier_, nullptr);
  }
  posted_.clear();
  connections_.clear();
  drop_placements();
}

void FakeMover::post(Task task, std::shared_ptr<FakeConnection> connection, std::shared_ptr<FakeLane> lane) {
  {
    std::lock_guard<std::mutex> lock(posts_mutex_);
    posted_.push_back({task, std::move(connection), std::move(lane)});
  }
  posts_ready_.notify_one();
}

void FakeMover::refill() {
  {
    std::lock_guard<std::mutex> lock(posts_mutex_);
    refill_ = true;
  }
  posts_ready_.notify_one();
}

void* FakeMover::main(void* mover) {
  pthread_setname_np(pthread_self(), "kvferry-courier");
  static_cast<FakeMover*>(mover)->run();
  return nullptr;
}

void FakeMover::run() {
  std::vector<Posted> serving;
  bool finishing = false;
  for (;;) {
    bool refilled = false;
    finishing = finishing && serve_finishing();
    {
      const auto is_due = [this] { return stopping_ || refill_ || !posted_.empty(); };
      std::unique_lock<std::mutex> lock(posts_mutex_);
      if (finishing) posts_ready_.wait_for(lock, kFinishingStep, is_due);
      else posts_ready_.wait(lock, is_due);
      if (stopping_) return;
      serving.swap(posted_);
      refilled = std::exchange(refill_, false);
    }
    for (const Posted& posted : serving) {
      serve(posted);
      finishing = finishing || posted.task == Task::disconnect;
    }
    serving.clear();
    if (refilled) serve_refill();
  }
}

void FakeMover::serve(const Posted& posted) {
  if (posted.task == Task::carry) {
    bool violation = false;
    if (carry(*posted.lane, &violation)) post(Task::carry, nullptr, posted.lane);
    if (!violation) return;
    std::lock_guard<std::mutex> lock(FakeBoard::instance().mutex);
    return close_pair(*posted.lane, Code::lane_lost, Code::protocol_error);
  }
  std::lock_guard<std::mutex> lock(FakeBoard::instance().mutex);
  if (posted.connection->ended) return;
  if (posted.task == Task::open_lane) join_lane(*posted.connection, posted.lane);
  if (posted.task == Task::close_lane) close_pair(*posted.lane, Code::closed, Code::lane_lost);
  if (posted.task == Task::disconnect) posted.connection->finish_at_us = now_us() + kFlushUs;
}

bool FakeMover::serve_finishing() {
  std::lock_guard<std::mutex> lock(FakeBoard::instance().mutex);
  const uint64_t now = now_us();
  bool left = false;
  for (auto& [id, connection] : connections_) {
    if (connection->finish_at_us == 0 || connection->ended) continue;
    close_lanes(*connection, Code::closed);
    if (connection->outbox.messages.empty() || now >= connection->finish_at_us) end_pair(*connection, Code::closed, Code::connection_lost, "");
    else left = true;
  }
  return left;
}

void FakeMover::deliver(FakeConnection& connection) {
  FakeConnection& peer = *connection.peer;
  MessageQueue& outbox = connection.outbox;
  while (!outbox.messages.empty() && peer.inbox.bytes < peer.mover.bounds.queue_bytes && peer.mover.events_.reserve(Quota::message)) {
    Event event;
    event.kind = EventKind::message;
    event.subject = double(peer.id);
    event.bytes = uint32_t(outbox.messages.front().size());
    peer.inbox.push(outbox.pop());
    peer.mover.events_.emit(Quota::message, event);
  }
  if (outbox.bytes <= connection.mover.bounds.queue_bytes / 2 && std::exchange(connection.was_full, false)) connection.mover.events_.poke();
}

// Lanes of other movers that wait for room among our events may go on.
void FakeMover::serve_refill() {
  std::lock_guard<std::mutex> lock(FakeBoard::instance().mutex);
  for (auto& [id, connection] : connections_) {
    if (connection->peer == nullptr) continue;
    deliver(*connection->peer);
    for (const std::shared_ptr<FakeLane>& lane : connection->peer->lanes) {
      if (lane->waiting.exchange(false)) lane->wake();
    }
  }
}

void FakeMover::join_lane(FakeConnection& connection, std::shared_ptr<FakeLane> lane) {
  FakeConnection* const peer = connection.peer;
  // Joined or closed already: it may be asked for twice.
  if (lane->pair != nullptr || std::find(connection.lanes.begin(), connection.lanes.end(), lane) == connection.lanes.end()) return;
  // Tried again when the other end has a token.
  if (peer != nullptr && !peer->admits) return;
  const bool known = peer != nullptr && peer->token == lane->token && lane->lane_index < peer->mover.bounds.lanes;
  if (!known || !peer->mover.events_.reserve(Quota::lane)) return close_pair(*lane, Code::lane_lost, Code::none);
  if (!peer->mover.events_.reserve(Quota::lane)) {
    peer->mover.events_.release(Quota::lane);
    return close_pair(*lane, Code::lane_lost, Code::none);
  }
  auto twin = std::make_shared<FakeLane>(*peer, lane->lane_index, lane->token.data());
  twin->pair = lane->pair = std::make_shared<LanePair>();
  twin->twin = lane.get();
  lane->twin = twin.get();
  peer->lanes.push_back(twin);
  peer->lane_up(*twin);
  connection.lane_up(*lane);
  twin->wake();
  lane->wake();
}

void FakeMover::close_pair(FakeLane& lane, Code here, Code there) {
  const auto remove = [](FakeLane& end, Code code) {
    const std::shared_ptr<LaneEnd> held = end.share();
    if (std::erase(end.connection.lanes, std::static_pointer_cast<FakeLane>(held)) > 0) end.connection.lane_down(end, code);
  };
  const std::shared_ptr<LanePair> pair = lane.pair;
  if (pair == nullptr) return remove(lane, here);
  // Waits for a chunk that is being carried.
  std::lock_guard<std::mutex> lock(pair->mutex);
  if (std::exchange(pair->dead, true)) return;
  remove(*lane.twin, there);
  remove(lane, here);
}

void FakeMover::close_lanes(FakeConnection& connection, Code here) {
  while (!connection.lanes.empty()) close_pair(*connection.lanes.back(), here, Code::lane_lost);
}

void FakeMover::end(FakeConnection& connection, Code code, const std::string& detail) {
  if (std::exchange(connection.ended, true)) return;
  connection.peer = nullptr;
  connection.mover.alive_ -= 1;
  connection.gone(code, detail);
}

void FakeMover::end_pair(FakeConnection& connection, Code here, Code there, const std::string& detail) {
  if (connection.ended) return;
  FakeConnection* const peer = connection.peer;
  // `connected` was never said.
  if (peer == nullptr) events_.release(Quota::table);
  close_lanes(connection, here == Code::closed ? Code::closed : Code::lane_lost);
  end(connection, here, "");
  if (peer != nullptr) end(*peer, there, detail.empty() ? "closed by the peer" : detail);
}

}  // namespace kvferry
