// Where the chunks of one transfer lie in local memory. What is fixed at birth may be read by any thread that holds a pin;
// the rest belongs to the exchange and is guarded by its mutex. native/OWNERSHIP.md says who may touch the memory when.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "chunk_codec.h"
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
  // One for each plane, or none at all; nullptr: the plane's chunks travel as they are.
  std::vector<std::shared_ptr<const ChunkCodec>> codecs;
  // Of the streams' first token in the sequence; codecs turn keys back by it.
  uint32_t position = 0;
};

// What is coded is held twice for a while, as it is and as it travels. As transport/limits.ts has it.
constexpr uint32_t kCodedChunkBytes = 4 << 20;
constexpr uint64_t kPositionMax = 1u << 31;

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
  // All of the chunk, whose bytes lie in as many planes as its codec joins.
  RunCursor cursor(uint32_t chunk) const;
  // nullptr: it travels as it is.
  const ChunkCodec* codec(uint32_t chunk) const { return spec.codecs.empty() ? nullptr : spec.codecs[spec.chunks[chunk].plane].get(); }
  // The bytes that a coded chunk is made of, out of memory and back.
  void gather_coded(uint32_t chunk, uint8_t* to) const;
  void scatter_coded(uint32_t chunk, const uint8_t* from) const;
  CodedChunk coded(uint32_t chunk) const;
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
  Failure check_codec(const ChunkRange& chunk) const;
  bool in_stream(uint32_t plane, uint64_t start, uint64_t bytes) const;
  // Bytes of one plane's stream in front of the chunk's end.
  uint64_t end_in_stream(const ChunkRange& chunk) const;

  std::vector<bool> plane_is_fine_;
  // Of each plane with a codec, where its last chunk ends in the stream: there ends what is known of the sequence.
  std::vector<uint64_t> plane_ends_;
};

}  // namespace kvferry
