// Chunks of one connection that wait for a lane. The most urgent rank goes first; a lower one gets a turn for every 32 MiB that passed it,
// so that it is slow and not stuck. Placements of a rank take turns by bytes (deficit round robin), so that transfers share the
// connection whatever their chunk sizes. Who has sent much more than the others takes half turns: transfers that began a little earlier,
// alone with the whole connection, let the others catch up, and short ones pass long ones; nobody waits for more than twice its share.
// Guarded by the exchange's mutex; allocates only while it grows.
#pragma once
#include <array>
#include <cstdint>
#include <vector>

#include "placement.h"

namespace kvferry {

constexpr uint32_t kNoNode = 0xffffffff;

struct QueuedChunk {
  uint32_t chunk = 0;
  uint32_t sequence = 0;
  uint64_t submitted_us = 0;
};

class SendQueue {
 public:
  explicit SendQueue(uint32_t bound) : bound_(bound) {}

  // False when full.
  bool push(Placement& placement, const QueuedChunk& chunk);
  // The next chunk in turn; nullptr when there is none.
  Placement* pop(QueuedChunk* chunk);
  // The placement's first chunk whoever's turn it is; false when it has none.
  bool pop_of(Placement& placement, QueuedChunk* chunk);
  uint32_t size() const { return size_; }
  uint64_t bytes() const { return bytes_; }
  // What is queued of the placement changes its rank with it.
  void set_rank(Placement& placement, uint32_t rank);

 private:
  struct Node { QueuedChunk queued; uint32_t next = kNoNode; };
  struct Ring {
    Placement* turn = nullptr;  // whose turn it is
    uint64_t waiting = 0;       // placements in the ring, and what they have sent together
    uint64_t sent = 0;
    uint64_t passed = 0;        // bytes of more urgent ranks since it had a turn
  };

  Ring& next_ring();
  Ring& ring_of(const Placement& placement) { return rings_[placement.rank]; }
  void join(Placement& placement);
  void leave(Placement& placement);
  bool is_ahead(const Placement& placement) const;

  std::vector<Node> nodes_;
  uint32_t free_ = kNoNode;
  uint32_t size_ = 0;
  uint64_t bytes_ = 0;
  uint32_t bound_;
  std::array<Ring, kRanks> rings_;
};

}  // namespace kvferry
