// What nvCOMP leaves undone: what became of each stream goes to its tile, and escapes are found among codes that it decoded.
#pragma once
#include "escape_kernel.h"

namespace kvferry::cuda {

// Lists as nvCOMP has them, of those tiles of a batch that have codes.
struct NvcompArguments {
  const Tile* tiles;
  TileState* states;
  const uint64_t* tile_of;  // among those of the batch
  const uint64_t* bytes;    // of a stream, or decoded
  const uint64_t* room;     // of the longest stream, or of all codes
  const int32_t* statuses;
  uint32_t count;
  uint32_t row_bytes;
  bool decodes;
};

struct FindArguments {
  const Tile* tiles;
  TileState* states;
  uint32_t width;  // of a row of codes
};

template <typename Block>
KVFERRY_DEVICE void nvcomp_take(Block& block, const NvcompArguments& a) {
  block.each([&](uint32_t thread) {
    const uint32_t index = block.x() * Block::threads + thread;
    if (index >= a.count) return;
    const Tile& tile = a.tiles[a.tile_of[index]];
    TileState* state = a.states + a.tile_of[index];
    uint8_t* padding = tile.block + codec::kHeaderBytes + size_t(tile.exempt + tile.recent) * a.row_bytes;
    if (a.decodes) {
      bool is_right = a.statuses[index] == 0 && a.bytes[index] == a.room[index];
      for (uint32_t byte = 0; byte < tile.padding; byte++) is_right = is_right && padding[byte] == 0;
      if (!is_right) state->wrong |= kHarmed;
      return;
    }
    const bool is_right = a.statuses[index] == 0 && a.bytes[index] > 0 && a.bytes[index] <= a.room[index];
    for (uint32_t byte = 0; byte < tile.padding; byte++) padding[byte] = 0;
    if (!is_right) state->wrong |= kIncompressible;
    state->stream_bytes = is_right ? uint32_t(a.bytes[index]) : 0;
  });
}

// Places of a tile's escapes, as the decoder of rANS finds them.
template <typename Block>
KVFERRY_DEVICE void escapes_find(Block& block, const FindArguments& a) {
  const Tile tile = a.tiles[block.x()];
  const uint32_t count = tile.coded * a.width, share = divided_up(count, Block::threads);
  uint32_t* sums = block.template shared<uint32_t>();
  const auto each_of = [&](uint32_t thread, auto body) {
    for (uint32_t at = thread * share; at < (thread + 1) * share && at < count; at++) {
      if (tile.codes[at] == codec::kEscape) body(at);
    }
  };
  block.phase([&](uint32_t thread) {
    sums[thread] = 0;
    if (thread == 0) sums[Block::threads] = 0;
    each_of(thread, [&](uint32_t) { sums[thread]++; });
  });
  sum_up(block, sums);
  block.each([&](uint32_t thread) {
    uint32_t index = sums[thread];
    each_of(thread, [&](uint32_t at) {
      if (index < tile.room) tile.escapes[2 * index] = at;
      index++;
    });
    if (thread == 0) a.states[block.x()].escapes = sums[Block::threads];
  });
}

}  // namespace kvferry::cuda
