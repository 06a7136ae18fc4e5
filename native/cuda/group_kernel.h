// Groups with a least and a greatest value: from pages to ranges and packed codes in one pass, and back. A thread's head has `range_rows` rows that share
// ranges; where that is more than one, the values are read and transformed a second time (from the cache) rather than kept.
#pragma once
#include "rows.h"

namespace kvferry::cuda {

struct GroupArguments {
  Shape shape;
  Paged kv;
  const Tile* tiles;
  TileState* states;
  Axis axis;
  uint32_t range_rows;  // 0: all rows of a tile
  uint32_t run;         // channels that share a range
  const uint8_t* bits;  // of each head: of a code as it lies
  const uint16_t* levels;
  const uint32_t* head_at;  // of each head, and behind the last: bytes of a row before it
};

KVFERRY_DEVICE void store_codes(uint8_t* to, uint64_t word, uint32_t bits) {
  if (bits == 4 && is_aligned(to, 4)) return put(to, uint32_t(word));
  if (bits == 8 && is_aligned(to, 4)) return put(to, uint32_t(word)), put(to + 4, uint32_t(word >> 32));
  for (uint32_t byte = 0; byte < bits; byte++) to[byte] = uint8_t(word >> (8 * byte));
}

KVFERRY_DEVICE uint64_t load_codes(const uint8_t* from, uint32_t bits) {
  if (bits == 4 && is_aligned(from, 4)) return take<uint32_t>(from);
  if (bits == 8 && is_aligned(from, 4)) return take<uint32_t>(from) | uint64_t(take<uint32_t>(from + 4)) << 32;
  uint64_t word = 0;
  for (uint32_t byte = 0; byte < bits; byte++) word |= uint64_t(from[byte]) << (8 * byte);
  return word;
}

// Ranges of the tile, its codes and its parameters, as schemas/codec.md lays them out.
struct GroupLayout {
  uint32_t rows;    // that share a range
  uint32_t units;   // of so many rows
  uint32_t of_head;  // ranges that a head has in a unit
  uint32_t ranges;   // and all heads
};

KVFERRY_DEVICE GroupLayout layout_of(const GroupArguments& a, const Tile& tile) {
  GroupLayout layout;
  layout.rows = a.range_rows == 0 ? tile.coded : a.range_rows;
  layout.units = layout.rows == 0 ? 0 : divided_up(tile.coded, layout.rows);
  layout.of_head = divided_up(a.shape.channels, a.run);
  layout.ranges = a.shape.all_heads() * layout.of_head;
  return layout;
}

KVFERRY_DEVICE uint16_t* parameters_at(const Tile& tile, const GroupLayout& layout, uint32_t unit) {
  // They lie right in front of the stream.
  return reinterpret_cast<uint16_t*>(tile.stream) - size_t(layout.units - unit) * layout.ranges * 2;
}

KVFERRY_DEVICE uint8_t* codes_at(const GroupArguments& a, const Tile& tile, const Place& place) {
  const uint32_t bits = a.bits[place.head];
  return tile.codes + size_t(tile.coded) * a.head_at[place.head] + (size_t(place.row) * a.shape.channels + place.channel) / 8 * bits;
}

// What a thread knows of its ranges: `kRanges` is kRun where each channel has its own, otherwise 1. Known when it is compiled, so that they stay in registers.
template <uint32_t kRanges>
struct Ranges {
  float low[kRanges], high[kRanges];
  KVFERRY_DEVICE_MEMBER void take(uint32_t i, float value) {
    const uint32_t at = kRanges == 1 ? 0 : i;
    low[at] = value < low[at] ? value : low[at];
    high[at] = value > high[at] ? value : high[at];
  }
};

template <typename Block, uint32_t kRanges>
using EachRanges = typename Block::template Each<Ranges<kRanges>>;

// Least and greatest of threads that share a range.
template <typename Block>
KVFERRY_DEVICE void share_ranges(Block& block, const GroupArguments& a, EachRanges<Block, 1>& ranges) {
  typename Block::template Each<float[2]> own, other;
  const uint32_t lanes = a.run >= a.shape.channels ? a.shape.lanes() : a.run / kRun;
  block.each([&](uint32_t thread) {
    own[thread][0] = ranges[thread].low[0];
    own[thread][1] = ranges[thread].high[0];
  });
  for (uint32_t apart = 1; apart < lanes; apart *= 2) {
    block.fetch(own, [&](uint32_t thread) { return thread ^ apart; }, other);
    block.each([&](uint32_t thread) {
      own[thread][0] = other[thread][0] < own[thread][0] ? other[thread][0] : own[thread][0];
      own[thread][1] = other[thread][1] > own[thread][1] ? other[thread][1] : own[thread][1];
    });
  }
  block.each([&](uint32_t thread) { ranges[thread] = {{own[thread][0]}, {own[thread][1]}}; });
}

// Ranges to parameters; what is left is the low and the reciprocal of the step of each.
template <typename Block, uint32_t kRanges>
KVFERRY_DEVICE void seal_ranges(Block& block, const GroupArguments& a, const Tile& tile, TileState* state, Places<Block>& places,
                                EachRanges<Block, kRanges>& ranges) {
  const GroupLayout layout = layout_of(a, tile);
  block.each([&](uint32_t thread) {
    const Place& place = places[thread];
    if (!place.is_valid) return;
    const float top = float(int32_t(a.levels[place.head]) - 1);
    uint16_t* parameters = parameters_at(tile, layout, place.row / layout.rows) + place.head * layout.of_head;
    KVFERRY_UNROLL
    for (uint32_t i = 0; i < kRanges; i++) {
      uint16_t low, step;
      float least = ranges[thread].low[i] + 0.0f, greatest = ranges[thread].high[i] + 0.0f;
      if (codec::seal_range(&least, &greatest, top, &low, &step) != 0) atomic_or(&state->wrong, kOutOfRange);
      ranges[thread].low[i] = least;
      ranges[thread].high[i] = greatest;
      const uint32_t channel = place.channel + i;
      if (channel % a.run != 0) continue;
      parameters[channel / a.run] = low;
      parameters[layout.ranges + channel / a.run] = step;
    }
  });
}

// A thread's values as codes, packed.
template <uint32_t kRanges>
KVFERRY_DEVICE void code_run(const GroupArguments& a, const Tile& tile, const Place& place, const Ranges<kRanges>& ranges, const float* values) {
  const uint32_t bits = a.bits[place.head];
  const float top = float(int32_t(a.levels[place.head]) - 1);
  uint64_t word = 0;
  KVFERRY_UNROLL
  for (uint32_t i = 0; i < kRun; i++) {
    const uint32_t at = kRanges == 1 ? 0 : i;
    word |= uint64_t(codec::group_code(values[i], ranges.low[at], ranges.high[at], top)) << (i * bits);
  }
  store_codes(codes_at(a, tile, place), word, bits);
}

template <uint32_t kRanges, typename Block>
KVFERRY_DEVICE void group_encode_as(Block& block, const GroupArguments& a) {
  const Tile tile = a.tiles[block.y()];
  TileState* state = a.states + block.y();
  const GroupLayout layout = layout_of(a, tile);
  const uint32_t first = block.x() * Block::threads;
  if (first >= layout.units * a.shape.all_heads() * a.shape.lanes()) return;
  Places<Block> places, here;
  EachRanges<Block, kRanges> ranges;
  Floats<Block> values;
  block.each([&](uint32_t thread) {
    Place& place = places[thread] = place_of(a.shape, first + thread, layout.units);
    place.row *= layout.rows;
    KVFERRY_UNROLL
    for (uint32_t i = 0; i < kRanges; i++) {
      ranges[thread].low[i] = codec::float_of(codec::kInfinity);
      ranges[thread].high[i] = -codec::float_of(codec::kInfinity);
    }
  });
  // The values of row `row` of each unit; the last unit may be shorter.
  const auto load_row = [&](uint32_t row) {
    block.each([&](uint32_t thread) {
      here[thread] = places[thread];
      here[thread].row += row;
      here[thread].is_valid = here[thread].is_valid && here[thread].row < tile.coded;
    });
    forward(block, a.shape, a.kv, tile, here, values);
  };
  const uint32_t rows = layout.rows < tile.coded ? layout.rows : tile.coded;
  for (uint32_t row = 0; row < rows; row++) {
    load_row(row);
    block.each([&](uint32_t thread) {
      if (!here[thread].is_valid) return;
      if (!are_finite(values[thread])) atomic_or(&state->wrong, kNotFinite);
      KVFERRY_UNROLL
      for (uint32_t i = 0; i < kRun; i++) ranges[thread].take(i, values[thread][i]);
    });
  }
  if constexpr (kRanges == 1) share_ranges(block, a, ranges);
  seal_ranges<Block, kRanges>(block, a, tile, state, places, ranges);
  for (uint32_t row = 0; row < rows; row++) {
    if (rows > 1) load_row(row);
    block.each([&](uint32_t thread) {
      if (here[thread].is_valid) code_run<kRanges>(a, tile, here[thread], ranges[thread], values[thread]);
    });
  }
}

// Apart, because a range for each channel takes many registers.
template <typename Block>
KVFERRY_DEVICE void group_encode(Block& block, const GroupArguments& a) {
  group_encode_as<1>(block, a);
}

template <typename Block>
KVFERRY_DEVICE void channel_encode(Block& block, const GroupArguments& a) {
  group_encode_as<kRun>(block, a);
}

template <typename Block>
KVFERRY_DEVICE void group_decode(Block& block, const GroupArguments& a) {
  const Tile tile = a.tiles[block.y()];
  const GroupLayout layout = layout_of(a, tile);
  const uint32_t first = block.x() * Block::threads;
  if (first >= tile.coded * a.shape.all_heads() * a.shape.lanes()) return;
  Places<Block> places;
  Floats<Block> values;
  block.each([&](uint32_t thread) {
    const Place& place = places[thread] = place_of(a.shape, first + thread, tile.coded);
    for (uint32_t i = 0; i < kRun; i++) values[thread][i] = 0;
    if (!place.is_valid) return;
    const uint32_t bits = a.bits[place.head], levels = a.levels[place.head];
    const uint64_t word = load_codes(codes_at(a, tile, place), bits);
    const uint16_t* parameters = parameters_at(tile, layout, place.row / layout.rows) + place.head * layout.of_head;
    for (uint32_t i = 0; i < kRun; i++) {
      const uint32_t code = uint32_t(word >> (i * bits)) & ((1u << bits) - 1), range = (place.channel + i) / a.run;
      if (code >= levels) atomic_or(&a.states[block.y()].wrong, kHarmed);
      const float low = codec::from_f16(parameters[range]), step = codec::from_bf16(parameters[layout.ranges + range]);
      values[thread][i] = codec::group_value(code, step, low);
    }
  });
  inverse(block, a.shape, a.kv, tile, places, values);
}

}  // namespace kvferry::cuda
