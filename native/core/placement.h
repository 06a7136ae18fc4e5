// Where the chunks of one transfer lie in local memory. What is fixed at birth may be read by any thread that holds a pin;
// the rest belongs to the exchange and is guarded by its mutex. native/OWNERSHIP.md says who may touch the memory when.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "codes.h"
#include "region.h"
#include "runs.h"

namespace kvferry {

struct ChunkRange {
  uint64_t start;  // in the plane's stream
  uint32_t plane;
  uint32_t bytes;
};

// Ranks of placements to send: 0 is the most urgent.
constexpr uint32_t kRanks = 3;

struct PlacementSpec {
  uint64_t id = 0;
  bool incoming = false;
  bool standing = false;
  bool checksum = true;
  uint32_t rank = 1;
  uint64_t grant = 0;
  uint32_t generation = 0;
  std::shared_ptr<Region> region;
  std::vector<Plane> planes;
  std::vector<std::vector<uint32_t>> block_lists;
  std::vector<ChunkRange> chunks;
  std::vector<uint32_t> committed;
};

// Of an incoming chunk. Eight bytes, because a transfer may have a million.
struct Slot {
  uint32_t sequence = 0;  // highest committed
  uint16_t writer = 0;    // lane + 1 while a lane is writing
  bool committed = false;
};

class Placement {
 public:
  explicit Placement(PlacementSpec&& spec);
  // Whether every chunk lies in the region; asked once, before the placement is used.
  Failure check(uint32_t chunk_bytes_max) const;

  const PlacementSpec spec;
  RunCursor cursor(uint32_t chunk) const;
  // The runs of this chunk are so short that copying them together beats naming each to the kernel.
  bool is_fine(uint32_t chunk) const { return plane_is_fine_[spec.chunks[chunk].plane]; }

  // Set once, under the exchange's mutex; lanes look at it between pieces.
  std::atomic<bool> revoked{false};

  // Guarded by the exchange's mutex from here on.
  uint32_t pins = 0;
  std::vector<Slot> slots;
  size_t uncommitted = 0;  // slots that were never committed
  // Of the send queue: first and last queued node, ring of placements with something queued, bytes it may still send this round, bytes it has sent.
  uint32_t queue_first;
  uint32_t queue_last;
  Placement* ring_next = nullptr;
  Placement* ring_previous = nullptr;
  uint64_t allowance = 0;
  uint32_t rank;
  uint64_t sent = 0;  // bytes that left the queue; a standing placement has no end to be fair to, and stays at 0

 private:
  std::vector<bool> plane_is_fine_;
};

}  // namespace kvferry
