#include "send_queue.h"

namespace kvferry {
namespace {

// What a placement may send in one turn: a default chunk, so that equal transfers alternate chunk by chunk.
constexpr uint64_t kTurnBytes = 1 << 20;
// A placement that had nothing queued and comes with so little goes first, once: a small message need not wait for a round of others.
constexpr uint64_t kSmallBytes = 64 << 10;
// So much more than the mean of those that wait is a lead.
constexpr uint64_t kLeadBytes = 4 << 20;

}  // namespace

bool SendQueue::push(Placement& placement, const QueuedChunk& chunk) {
  if (size_ >= bound_) return false;
  uint32_t index = free_;
  if (index != kNoNode) {
    free_ = nodes_[index].next;
    nodes_[index] = Node{chunk, kNoNode};
  } else {
    index = uint32_t(nodes_.size());
    nodes_.push_back(Node{chunk, kNoNode});
  }
  if (placement.queue_first == kNoNode) {
    placement.queue_first = index;
    join(placement);
  } else {
    nodes_[placement.queue_last].next = index;
  }
  placement.queue_last = index;
  size_ += 1;
  bytes_ += placement.spec.chunks[chunk.chunk].bytes;
  return true;
}

Placement* SendQueue::pop(QueuedChunk* chunk) {
  if (turn_ == nullptr) return nullptr;
  for (;;) {
    Placement& placement = *turn_;
    const uint64_t bytes = placement.spec.chunks[nodes_[placement.queue_first].queued.chunk].bytes;
    if (placement.allowance < bytes) {
      placement.allowance += is_ahead(placement) ? kTurnBytes / 2 : kTurnBytes;
      turn_ = placement.ring_next;
      continue;
    }
    placement.allowance -= bytes;
    pop_of(placement, chunk);
    return &placement;
  }
}

bool SendQueue::pop_of(Placement& placement, QueuedChunk* chunk) {
  const uint32_t index = placement.queue_first;
  if (index == kNoNode) return false;
  Node& node = nodes_[index];
  *chunk = node.queued;
  placement.queue_first = node.next;
  node.next = free_;
  free_ = index;
  const uint64_t bytes = placement.spec.chunks[chunk->chunk].bytes;
  size_ -= 1;
  bytes_ -= bytes;
  if (!placement.spec.standing) {
    placement.sent += bytes;
    sent_ += bytes;
  }
  if (placement.queue_first == kNoNode) leave(placement);
  return true;
}

void SendQueue::join(Placement& placement) {
  placement.allowance = 0;
  waiting_ += 1;
  sent_ += placement.sent;
  if (turn_ == nullptr) {
    placement.ring_next = placement.ring_previous = &placement;
    turn_ = &placement;
    return;
  }
  // Behind everybody else: just before whose turn it is.
  placement.ring_next = turn_;
  placement.ring_previous = turn_->ring_previous;
  placement.ring_previous->ring_next = &placement;
  turn_->ring_previous = &placement;
  const uint64_t bytes = placement.spec.chunks[nodes_[placement.queue_first].queued.chunk].bytes;
  if (bytes > kSmallBytes) return;
  placement.allowance = bytes;
  turn_ = &placement;
}

bool SendQueue::is_ahead(const Placement& placement) const {
  return placement.sent > kLeadBytes && (placement.sent - kLeadBytes) * waiting_ > sent_;
}

void SendQueue::leave(Placement& placement) {
  waiting_ -= 1;
  sent_ -= placement.sent;
  if (placement.ring_next == &placement) {
    turn_ = nullptr;
  } else {
    placement.ring_previous->ring_next = placement.ring_next;
    placement.ring_next->ring_previous = placement.ring_previous;
    if (turn_ == &placement) turn_ = placement.ring_next;
  }
  placement.ring_next = placement.ring_previous = nullptr;
  placement.queue_last = kNoNode;
}

}  // namespace kvferry
