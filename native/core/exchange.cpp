// The exchange as the JavaScript thread sees it: placements, revocation, queueing. exchange_lanes.cpp has what lanes do.
#include "exchange.h"

namespace kvferry {

Exchange::Exchange(uint64_t given, EventQueue& events, const Bounds& bounds, bool lazily)
    : id(given), events_(events), lazily_(lazily), queue_(bounds.send_queue_chunks) {}

Failure Exchange::place(std::shared_ptr<Placement> placement) {
  std::lock_guard<std::mutex> lock(mutex_);
  const PlacementSpec& spec = placement->spec;
  if (gone_) return {Code::connection_lost, "the connection is gone"};
  if (spec.incoming && grants_.contains(spec.grant)) return {Code::invalid_argument, "the grant is in use on this connection"};
  if (!events_.reserve(Quota::table)) return {Code::full, ""};
  if (spec.incoming) grants_.emplace(spec.grant, placement.get());
  placements_.emplace(spec.id, std::move(placement));
  return {};
}

void Exchange::set_rank(Placement& placement, uint32_t rank) {
  std::lock_guard<std::mutex> lock(mutex_);
  queue_.set_rank(placement, rank);
}

void Exchange::revoke(Placement& placement) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (placement.revoked.exchange(true)) return;
  if (placement.spec.incoming) grants_.erase(placement.spec.grant);
  QueuedChunk queued;
  while (queue_.pop_of(placement, &queued)) fail(placement, queued.chunk, queued.sequence, kNoLane, Code::cancelled);
  for (LaneEnd* lane : lanes_) {
    for (size_t index = 0; index < lane->unanswered_.size(); index++) {
      LaneEnd::Unanswered& sent = lane->unanswered_.at(index);
      if (sent.placement != &placement) continue;
      sent.placement = nullptr;
      fail(placement, sent.chunk, sent.sequence, lane->lane_index, Code::cancelled);
    }
  }
  if (placement.pins == 0) return finish_revocation(placement);
  for (LaneEnd* lane : lanes_) {
    if (lane->sending_ == &placement || lane->receiving_ == &placement) lane->nudge();
  }
}

Queueing Exchange::queue(Placement& placement, const QueuedChunk& chunk) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (gone_) return Queueing::gone;
  return queue_.push(placement, chunk) ? Queueing::queued : Queueing::full;
}

void Exchange::rest_lane(uint32_t lane_index, bool resting) {
  std::lock_guard<std::mutex> lock(mutex_);
  for (LaneEnd* lane : lanes_) {
    if (lane->lane_index != lane_index) continue;
    lane->resting_ = resting;
    if (resting || !lane->hungry_ || queue_.size() == 0) return;
    lane->hungry_ = false;
    lane->wake();
    return;
  }
}

void Exchange::wake_lanes() {
  std::lock_guard<std::mutex> lock(mutex_);
  for (uint32_t left = queue_.size(); left > 0; left--) {
    LaneEnd* lane = idlest();
    if (lane == nullptr) return;
    lane->hungry_ = false;
    lane->wake();
  }
}

std::shared_ptr<LaneEnd> Exchange::idle_lane(uint64_t bytes_max) {
  std::lock_guard<std::mutex> lock(mutex_);
  LaneEnd* lane = queue_.bytes() <= bytes_max ? idlest() : nullptr;
  if (lane == nullptr) return nullptr;
  lane->hungry_ = false;
  return lane->share();
}

LaneEnd* Exchange::idlest() {
  LaneEnd* best = nullptr;
  for (LaneEnd* lane : lanes_) {
    if (lane->hungry_ && !lane->resting_ && (best == nullptr || lane->unanswered_bytes_ < best->unanswered_bytes_)) best = lane;
  }
  return best;
}

void Exchange::gone(Code code, const std::string& detail) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (gone_) return;
  gone_ = true;
  detail_ = detail;
  Placement* placement = nullptr;
  QueuedChunk queued;
  while ((placement = queue_.pop(&queued)) != nullptr) fail(*placement, queued.chunk, queued.sequence, kNoLane, Code::lane_lost);
  Event event;
  event.kind = EventKind::disconnected;
  event.subject = double(id);
  event.code = uint32_t(code);
  events_.emit(Quota::table, event);
}

bool Exchange::is_gone() {
  std::lock_guard<std::mutex> lock(mutex_);
  return gone_;
}

std::string Exchange::detail() {
  std::lock_guard<std::mutex> lock(mutex_);
  return detail_;
}

void Exchange::unpin(Placement& placement) {
  placement.pins -= 1;
  if (placement.pins == 0 && placement.revoked.load()) finish_revocation(placement);
}

void Exchange::finish_revocation(Placement& placement) {
  Event event;
  event.kind = EventKind::revoked;
  event.subject = double(placement.spec.id);
  // The JavaScript thread has a reference of its own until it hands this event over.
  placements_.erase(placement.spec.id);
  events_.emit(Quota::table, event);
}

void Exchange::emit_bulk(Quota quota, const Event& event, bool is_last) {
  if (lazily_ && !is_last) events_.emit_lazily(quota, event);
  else events_.emit(quota, event);
}

void Exchange::fail(const Placement& placement, uint32_t chunk, uint32_t sequence, uint32_t lane, Code code) {
  Event event;
  event.kind = EventKind::failed;
  event.subject = double(placement.spec.id);
  event.lane = lane;
  event.chunk = chunk;
  event.sequence = sequence;
  event.code = uint32_t(code);
  events_.emit(Quota::submission, event);
}

}  // namespace kvferry
