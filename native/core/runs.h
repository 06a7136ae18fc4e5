// A plane's stream as runs of memory: transport/link/link.ts says what a plane is.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace kvferry {

struct Plane {
  uint64_t offset, block_stride, token_stride, head_stride, channel_stride;
  uint32_t tokens, heads, channels, element_bytes, first_token, block_list;
  uint64_t token_bytes() const { return uint64_t(heads) * channels * element_bytes; }
  // Bytes of the stream that one whole block gives.
  uint64_t block_bytes() const { return uint64_t(tokens) * token_bytes(); }
};

struct Run {
  uint64_t offset;  // from the region's base
  uint64_t bytes;
};

// Walks [start, start + bytes) of the stream of `plane` over `blocks`, in as few runs as the strides allow:
// neighbours in the stream that are neighbours in memory come as one run (also across blocks).
// The plane must fit (plane_fits) and the span must lie in the stream; both outlive the cursor.
class RunCursor {
 public:
  RunCursor(const Plane& plane, const uint32_t* blocks, size_t block_count, uint64_t start, uint64_t bytes);
  // The same span of `parts` planes that follow one another, each over the list that it names: one after the other.
  RunCursor(const Plane* planes, uint32_t parts, const std::vector<uint32_t>* block_lists, uint64_t start, uint64_t bytes);
  // The next run of at most `limit` bytes; false at the end.
  bool next(Run* run, uint64_t limit);
  uint64_t left() const { return left_; }
  // Bytes that surely lie together: what one step of the walk gives.
  uint64_t unit_bytes() const { return unit_bytes_; }

 private:
  friend void gather(uint8_t* to, const uint8_t* region, RunCursor& from, uint64_t count);
  friend void scatter(uint8_t* region, RunCursor& to, const uint8_t* from, uint64_t count);
  void begin(uint64_t start);
  bool begin_next_part();
  uint64_t address() const;
  void advance();
  // Elements of the row under the cursor that still follow it at one stride; 0 if elements lie together.
  uint64_t row_elements() const;
  void skip_elements(uint64_t count);

  const Plane* plane_;
  const uint32_t* blocks_;
  uint64_t left_;
  // The unit is the largest part that lies together: an element, a head's channels, a token, or a block.
  uint64_t unit_bytes_;
  // Units in each level above the unit, innermost first: channels, heads, tokens (1 where a level is inside the unit), and their strides.
  uint32_t channels_, heads_, tokens_;
  // Where the cursor stands.
  uint64_t block_ = 0, in_unit_ = 0;
  uint32_t token_ = 0, head_ = 0, channel_ = 0;
  // Of the planes that follow.
  uint32_t parts_left_ = 0;
  const std::vector<uint32_t>* block_lists_ = nullptr;
  uint64_t start_ = 0, part_bytes_ = 0;
};

// True if every byte the plane can name over these blocks lies in [0, region_bytes), without overflow, and no count is zero.
bool plane_fits(const Plane& plane, const uint32_t* blocks, size_t block_count, uint64_t region_bytes);
// Copies the next `count` bytes of the stream to or from plain memory; at most what is left.
void gather(uint8_t* to, const uint8_t* region, RunCursor& from, uint64_t count);
void scatter(uint8_t* region, RunCursor& to, const uint8_t* from, uint64_t count);

}  // namespace kvferry
