// The exchange as its lanes see it: what to send next, where an arriving chunk lands, what becomes of both when a lane dies.
#include <algorithm>
#include <utility>

#include "exchange.h"

namespace kvferry {

void Exchange::lane_up(LaneEnd& lane) {
  std::lock_guard<std::mutex> lock(mutex_);
  lane.up_ = true;
  lanes_.push_back(&lane);
  Event event;
  event.kind = EventKind::lane_up;
  event.subject = double(id);
  event.lane = lane.lane_index;
  events_.emit(Quota::lane, event);
}

void Exchange::lane_down(LaneEnd& lane, Code code) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (lane.up_) {
    std::erase(lanes_, &lane);
  } else {
    events_.release(Quota::lane);
  }
  lane.up_ = lane.hungry_ = false;
  for (; !lane.unanswered_.empty(); lane.unanswered_.pop()) {
    const LaneEnd::Unanswered& sent = lane.unanswered_.front();
    if (sent.placement != nullptr) fail(*sent.placement, sent.chunk, sent.sequence, lane.lane_index, Code::lane_lost);
  }
  if (Placement* placement = std::exchange(lane.sending_, nullptr)) unpin(*placement);
  if (Placement* placement = std::exchange(lane.receiving_, nullptr)) {
    placement->slots[lane.receiving_chunk_].writer = 0;
    events_.release(Quota::arrival);
    unpin(*placement);
  }
  Event event;
  event.kind = EventKind::lane_down;
  event.subject = double(id);
  event.lane = lane.lane_index;
  event.code = uint32_t(code);
  events_.emit(Quota::lane, event);
}

bool Exchange::take(LaneEnd& lane, Outgoing* out) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!lane.up_) return false;
  if (lane.unanswered_.full()) {
    lane.answer_bound_ = true;
    return false;
  }
  QueuedChunk queued;
  Placement* placement = lane.resting_ ? nullptr : queue_.pop(&queued);
  lane.hungry_ = placement == nullptr;
  if (placement == nullptr) return false;
  placement->pins += 1;
  lane.sending_ = placement;
  const PlacementSpec& spec = placement->spec;
  const uint32_t bytes = spec.chunks[queued.chunk].bytes;
  lane.unanswered_.push({placement, spec.grant, spec.generation, queued.chunk, queued.sequence, bytes, queued.submitted_us});
  lane.unanswered_bytes_ += bytes;
  *out = {placement, queued.chunk, queued.sequence};
  return true;
}

void Exchange::shrunk(LaneEnd& lane, uint32_t bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  // It has gone with the lane otherwise.
  if (lane.sending_ == nullptr || lane.unanswered_.empty()) return;
  LaneEnd::Unanswered& last = lane.unanswered_.at(lane.unanswered_.size() - 1);
  lane.unanswered_bytes_ -= last.bytes - bytes;
  last.bytes = bytes;
}

void Exchange::sent(LaneEnd& lane) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (Placement* placement = std::exchange(lane.sending_, nullptr)) unpin(*placement);
}

uint64_t Exchange::unanswered_bytes(LaneEnd& lane) {
  std::lock_guard<std::mutex> lock(mutex_);
  return lane.unanswered_bytes_;
}

bool Exchange::is_receiving(LaneEnd& lane) {
  std::lock_guard<std::mutex> lock(mutex_);
  return lane.receiving_ != nullptr;
}

Answering Exchange::answered(LaneEnd& lane, const FrameHeader& header, uint64_t now_us) {
  std::lock_guard<std::mutex> lock(mutex_);
  Ring<LaneEnd::Unanswered>& ring = lane.unanswered_;
  // A peer answers a lane's chunks in their order, so this finds the first one.
  for (size_t index = 0; index < ring.size(); index++) {
    LaneEnd::Unanswered& sent = ring.at(index);
    if (sent.chunk != header.chunk || sent.sequence != header.sequence || sent.grant != header.grant || sent.generation != header.generation) continue;
    if (sent.bytes == 0 || (header.type == FrameType::nack && header.status == 0)) return Answering::violation;
    lane.unanswered_bytes_ -= sent.bytes;
    const uint32_t bytes = std::exchange(sent.bytes, 0);  // answered
    if (Placement* placement = std::exchange(sent.placement, nullptr)) {
      Event event;
      event.kind = header.type == FrameType::ack ? EventKind::acked : EventKind::failed;
      event.subject = double(placement->spec.id);
      event.lane = lane.lane_index;
      event.chunk = header.chunk;
      event.sequence = header.sequence;
      event.code = header.type == FrameType::ack ? 0 : header.status;
      event.bytes = bytes;
      event.duration_us = now_us > sent.submitted_us ? double(now_us - sent.submitted_us) : 0;
      // With chunks waiting for every lane, nobody needs to bring more at once.
      emit_bulk(Quota::submission, event, header.type == FrameType::nack || queue_.size() < 2 * lanes_.size());
    }
    while (!ring.empty() && ring.front().bytes == 0) ring.pop();
    return std::exchange(lane.answer_bound_, false) ? Answering::room : Answering::noted;
  }
  return Answering::violation;
}

Arrival Exchange::arrived(LaneEnd& lane, const FrameHeader& header) {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto discard = [&](FrameType type, Code status) {
    events_.release(Quota::arrival);
    return Arrival{Landing::discard, nullptr, {type, status}};
  };
  const auto violation = [&] {
    events_.release(Quota::arrival);
    return Arrival{Landing::violation, nullptr, {FrameType::nack, Code::protocol_error}};
  };
  const auto found = grants_.find(header.grant);
  if (found == grants_.end() || found->second->spec.generation != header.generation) return discard(FrameType::nack, Code::grant_unknown);
  Placement& placement = *found->second;
  const PlacementSpec& spec = placement.spec;
  if (header.chunk >= spec.chunks.size()) return violation();
  const bool coded = (header.flags & kFlagCoded) != 0;
  const uint32_t bytes = spec.chunks[header.chunk].bytes;
  // One that does not become less travels as it is.
  if (coded ? placement.codec(header.chunk) == nullptr || header.bytes >= bytes : header.bytes != bytes) return violation();
  if (header.sequence == 0 || (spec.checksum && (header.flags & kFlagChecksum) == 0)) return violation();
  Slot& slot = placement.slots[header.chunk];
  const bool again = spec.standing && header.sequence > slot.sequence;
  if (slot.committed && !again) return discard(FrameType::ack, Code::duplicate_chunk);
  if (slot.writer != 0) return discard(FrameType::nack, Code::chunk_busy);
  slot.writer = uint16_t(lane.lane_index + 1);
  placement.pins += 1;
  lane.receiving_ = &placement;
  lane.receiving_chunk_ = header.chunk;
  return {Landing::write, &placement, {}};
}

Answer Exchange::landed(LaneEnd& lane, const FrameHeader& header, Code fault) {
  std::lock_guard<std::mutex> lock(mutex_);
  Placement* placement = std::exchange(lane.receiving_, nullptr);
  if (placement == nullptr) return {FrameType::nack, Code::grant_unknown};
  Slot& slot = placement->slots[header.chunk];
  slot.writer = 0;
  Answer answer = {FrameType::ack, Code::none};
  if (placement->revoked.load()) {
    answer = {FrameType::nack, Code::grant_unknown};
    events_.release(Quota::arrival);
  } else {
    if (fault != Code::none) answer = {FrameType::nack, fault};
    Event event;
    event.kind = answer.type == FrameType::ack ? EventKind::committed : EventKind::rejected;
    event.subject = double(placement->spec.id);
    event.lane = lane.lane_index;
    event.chunk = header.chunk;
    event.sequence = header.sequence;
    event.code = uint32_t(answer.status);
    event.bytes = header.bytes;
    if (answer.type == FrameType::ack) {
      if (!std::exchange(slot.committed, true)) placement->uncommitted -= 1;
      slot.sequence = std::max(slot.sequence, header.sequence);
    }
    emit_bulk(Quota::arrival, event, event.kind == EventKind::rejected || placement->uncommitted == 0);
  }
  unpin(*placement);
  return answer;
}

void Exchange::let_go(LaneEnd& lane) {
  std::lock_guard<std::mutex> lock(mutex_);
  Placement* placement = std::exchange(lane.receiving_, nullptr);
  if (placement == nullptr) return;
  placement->slots[lane.receiving_chunk_].writer = 0;
  events_.release(Quota::arrival);
  unpin(*placement);
}

}  // namespace kvferry
