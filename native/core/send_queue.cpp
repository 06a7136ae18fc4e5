#include "send_queue.h"

namespace kvferry {
namespace {

// What a placement may send in one turn: a default chunk, so that equal transfers alternate chunk by chunk.
constexpr uint64_t kTurnBytes = 1 << 20;
// A placement that had nothing queued and comes with so little goes first, once: a small message need not wait for a round of others.
constexpr uint64_t kSmallBytes = 64 << 10;
// So much more than the mean of those that wait is a lead.
constexpr uint64_t kLeadBytes = 4 << 20;
// After so much of more urgent ranks, a rank that waits has a turn.
constexpr uint64_t kPassedBytes = 32 << 20;

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
  if (size_ == 0) return nullptr;
  Ring& ring = next_ring();
  for (;;) {
    Placement& placement = *ring.turn;
    const uint64_t bytes = placement.spec.chunks[nodes_[placement.queue_first].queued.chunk].bytes;
    if (placement.allowance < bytes) {
      placement.allowance += is_ahead(placement) ? kTurnBytes / 2 : kTurnBytes;
      ring.turn = placement.ring_next;
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
    ring_of(placement).sent += bytes;
  }
  for (uint32_t rank = placement.rank + 1; rank < kRanks; rank++) {
    if (rings_[rank].turn != nullptr) rings_[rank].passed += bytes;
  }
  if (placement.queue_first == kNoNode) leave(placement);
  return true;
}

void SendQueue::set_rank(Placement& placement, uint32_t rank) {
  const bool queued = placement.queue_first != kNoNode;
  const uint32_t last = placement.queue_last;
  if (queued) leave(placement);
  placement.rank = rank;
  if (!queued) return;
  placement.queue_last = last;
  join(placement);
}

// The most urgent, unless a lower one has been passed by enough.
SendQueue::Ring& SendQueue::next_ring() {
  Ring* first = nullptr;
  for (Ring& ring : rings_) {
    if (ring.turn == nullptr) continue;
    if (ring.passed >= kPassedBytes) {
      ring.passed = 0;
      return ring;
    }
    if (first == nullptr) first = &ring;
  }
  return *first;
}

void SendQueue::join(Placement& placement) {
  Ring& ring = ring_of(placement);
  placement.allowance = 0;
  ring.waiting += 1;
  ring.sent += placement.sent;
  if (ring.turn == nullptr) {
    placement.ring_next = placement.ring_previous = &placement;
    ring.turn = &placement;
    return;
  }
  // Behind everybody else: just before whose turn it is.
  placement.ring_next = ring.turn;
  placement.ring_previous = ring.turn->ring_previous;
  placement.ring_previous->ring_next = &placement;
  ring.turn->ring_previous = &placement;
  const uint64_t bytes = placement.spec.chunks[nodes_[placement.queue_first].queued.chunk].bytes;
  if (bytes > kSmallBytes) return;
  placement.allowance = bytes;
  ring.turn = &placement;
}

bool SendQueue::is_ahead(const Placement& placement) const {
  const Ring& ring = rings_[placement.rank];
  return placement.sent > kLeadBytes && (placement.sent - kLeadBytes) * ring.waiting > ring.sent;
}

void SendQueue::leave(Placement& placement) {
  Ring& ring = ring_of(placement);
  ring.waiting -= 1;
  ring.sent -= placement.sent;
  if (placement.ring_next == &placement) {
    ring.turn = nullptr;
    ring.passed = 0;
  } else {
    placement.ring_previous->ring_next = placement.ring_next;
    placement.ring_next->ring_previous = placement.ring_previous;
    if (ring.turn == &placement) ring.turn = placement.ring_next;
  }
  placement.ring_next = placement.ring_previous = nullptr;
  placement.queue_last = kNoNode;
}

}  // namespace kvferry
