#include "placement.h"

#include <algorithm>
#include <utility>

#include "send_queue.h"

namespace kvferry {
namespace {

// Below this many bytes a run costs the kernel more to look up than the processor to copy.
constexpr uint64_t kFineRunBytes = 2048;

// Bytes that surely lie together in the plane's stream; neighbouring blocks may make longer runs of it.
uint64_t run_bytes(const Plane& plane) {
  uint64_t bytes = plane.element_bytes;
  if (plane.channels > 1 && plane.channel_stride != bytes) return bytes;
  bytes *= plane.channels;
  if (plane.heads > 1 && plane.head_stride != bytes) return bytes;
  bytes *= plane.heads;
  if (plane.tokens > 1 && plane.token_stride != bytes) return bytes;
  return bytes * plane.tokens;
}

// Of a plane that fits its region. 0 when it is absurdly long, which blocks that lie on each other can make it.
uint64_t stream_bytes(const Plane& plane, size_t block_count) {
  const uint64_t skipped = uint64_t(plane.first_token) * plane.heads * plane.channels * plane.element_bytes;
  uint64_t whole;
  if (__builtin_mul_overflow(plane.block_bytes(), uint64_t(block_count), &whole)) return 0;
  return whole > skipped ? whole - skipped : 0;
}

}  // namespace

Placement::Placement(PlacementSpec&& given) : spec(std::move(given)), queue_first(kNoNode), queue_last(kNoNode), rank(spec.rank) {
  plane_is_fine_.reserve(spec.planes.size());
  for (const Plane& plane : spec.planes) plane_is_fine_.push_back(run_bytes(plane) < kFineRunBytes);
  if (!spec.codecs.empty() && spec.codecs.size() == spec.planes.size()) {
    plane_ends_.resize(spec.planes.size());
    for (const ChunkRange& chunk : spec.chunks) {
      if (chunk.plane < spec.planes.size() && spec.codecs[chunk.plane] != nullptr) {
        plane_ends_[chunk.plane] = std::max(plane_ends_[chunk.plane], end_in_stream(chunk));
      }
    }
  }
  if (!spec.incoming) return;
  slots.resize(spec.chunks.size());
  uncommitted = slots.size();
  for (uint32_t chunk : spec.committed) {
    if (chunk < slots.size() && !std::exchange(slots[chunk].committed, true)) uncommitted -= 1;
  }
}

Failure Placement::check(uint32_t chunk_bytes_max) const {
  if (spec.incoming && spec.region->read_only) return {Code::invalid_argument, "the region is attached read-only"};
  for (const Plane& plane : spec.planes) {
    if (plane.block_list >= spec.block_lists.size()) return {Code::invalid_argument, "a plane names a block list that is not there"};
    if (plane.tokens == 0 || plane.heads == 0 || plane.channels == 0 || plane.element_bytes == 0) return {Code::invalid_argument, "a plane is empty"};
    const std::vector<uint32_t>& blocks = spec.block_lists[plane.block_list];
    if (!plane_fits(plane, blocks.data(), blocks.size(), spec.region->bytes)) return {Code::range_invalid, "a plane leaves its region"};
  }
  if (!spec.codecs.empty() && spec.codecs.size() != spec.planes.size()) return {Code::invalid_argument, "codecs are one for each plane"};
  for (const ChunkRange& chunk : spec.chunks) {
    if (chunk.plane >= spec.planes.size()) return {Code::invalid_argument, "a chunk names a plane that is not there"};
    if (chunk.bytes == 0 || chunk.bytes > chunk_bytes_max) return {Code::invalid_argument, "a chunk is empty or above its limit"};
    const ChunkCodec* const codec = spec.codecs.empty() ? nullptr : spec.codecs[chunk.plane].get();
    if (codec != nullptr) {
      if (Failure failure = check_codec(chunk)) return failure;
    } else if (!in_stream(chunk.plane, chunk.start, chunk.bytes)) {
      return {Code::range_invalid, "a chunk leaves its plane's stream"};
    }
  }
  for (uint32_t chunk : spec.committed) {
    if (chunk >= spec.chunks.size()) return {Code::invalid_argument, "a committed chunk is not in the list of chunks"};
  }
  return {};
}

bool Placement::in_stream(uint32_t index, uint64_t start, uint64_t bytes) const {
  const Plane& plane = spec.planes[index];
  const uint64_t stream = stream_bytes(plane, spec.block_lists[plane.block_list].size());
  return start <= stream && bytes <= stream - start;
}

// Whole tokens of as many planes as the codec joins, all of its shape.
Failure Placement::check_codec(const ChunkRange& chunk) const {
  const ChunkCodec& codec = *spec.codecs[chunk.plane];
  const uint32_t parts = codec.parts();
  const uint64_t token = codec.token_bytes();
  const bool whole = chunk.bytes % (parts * token) == 0 && chunk.start % token == 0;
  if (!whole || chunk.bytes > kCodedChunkBytes || !codec.takes(chunk.bytes)) return {Code::invalid_argument, "a coded chunk is not whole tokens, or too long"};
  if (spec.position + (chunk.start + chunk.bytes) / token > kPositionMax) return {Code::invalid_argument, "a position is too large"};
  for (uint32_t plane = chunk.plane; plane < chunk.plane + uint64_t(parts); plane++) {
    if (plane >= spec.planes.size() || spec.planes[plane].token_bytes() != token) return {Code::invalid_argument, "a plane has another shape than its codec"};
    if (!in_stream(plane, chunk.start, chunk.bytes / parts)) return {Code::range_invalid, "a coded chunk leaves its planes' streams"};
  }
  return {};
}

CodedChunk Placement::coded(uint32_t chunk) const {
  const ChunkRange& range = spec.chunks[chunk];
  const uint64_t token = codec(chunk)->token_bytes();
  return {range.bytes, uint32_t(spec.position + range.start / token), uint32_t(spec.position + plane_ends_[range.plane] / token)};
}

uint64_t Placement::end_in_stream(const ChunkRange& chunk) const { return chunk.start + chunk.bytes / spec.codecs[chunk.plane]->parts(); }

void Placement::gather_coded(uint32_t chunk, uint8_t* to) const {
  RunCursor from = cursor(chunk);
  gather(to, spec.region->base, from, spec.chunks[chunk].bytes);
}

void Placement::scatter_coded(uint32_t chunk, const uint8_t* from) const {
  RunCursor to = cursor(chunk);
  scatter(spec.region->base, to, from, spec.chunks[chunk].bytes);
}

RunCursor Placement::cursor(uint32_t chunk) const {
  const ChunkRange& range = spec.chunks[chunk];
  const uint32_t parts = codec(chunk) == nullptr ? 1 : codec(chunk)->parts();
  return RunCursor(&spec.planes[range.plane], parts, spec.block_lists.data(), range.start, range.bytes / parts);
}

}  // namespace kvferry
