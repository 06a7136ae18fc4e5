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

// What a thread knows of its ranges: of its first channel, or of each.
struct Ranges {
  float low[kRun], high[kRun];
};

template <typename Block>
using EachRanges = typename Block::template Each<Ranges>;

// Least and greatest of threads that share a range, where it is of several channels.
template <typename Block>
KVFERRY_DEVICE void share_ranges(Block& block, const GroupArguments& a, EachRanges<Block>& ranges) {
  typename Block::template Each<float[2]> own, other;
  const uint32_t lanes = a.run >= a.shape.channels ? a.shape.lanes : a.run / kRun;
  block.each([&](uint32_t thread) {
    own[thread][0] = ranges[thread].low[0];
    own[thread][1] = ranges[thread].high[0];
    for (uint32_t i = 1; i < kRun; i++) {
      own[thread][0] = ranges[thread].low[i] < own[thread][0] ? ranges[thread].low[i] : own[thread][0];
      own[thread][1] = ranges[thread].high[i] > own[thread][1] ? ranges[thread].high[i] : own[thread][1];
    }
  });
  for (uint32_t apart = 1; apart < lanes; apart *= 2) {
    block.fetch(own, [&](uint32_t thread) { return thread ^ apart; }, other);
    block.each([&](uint32_t thread) {
      own[thread][0] = other[thread][0] < own[thread][0] ? other[thread][0] : own[thread][0];
      own[thread][1] = other[thread][1] > own[thread][1] ? other[thread][1] : own[thread][1];
    });
  }
  block.each([&](uint32_t thread) {
    ranges[thread].low[0] = own[thread][0];
    ranges[thread].high[0] = own[thread][1];
  });
}

// Ranges to parameters; what is left is the low and the reciprocal of the step of each value.
template <typename Block>
KVFERRY_DEVICE void seal_ranges(Block& block, const GroupArguments& a, const Tile& tile, TileState* state, Places<Block>& places,
                                EachRanges<Block>& ranges) {
  const GroupLayout layout = layout_of(a, tile);
  block.each([&](uint32_t thread) {
    const Place& place = places[thread];
    if (!place.is_valid) return;
    const uint32_t count = a.run == 1 ? kRun : 1;
    const float top = float(int32_t(a.levels[place.head]) - 1);
    uint16_t* parameters = parameters_at(tile, layout, place.row / layout.rows) + place.head * layout.of_head;
    for (uint32_t i = 0; i < count; i++) {
      uint16_t low, step;
      float least = ranges[thread].low[i] + 0.0f, greatest = ranges[thread].high[i] + 0.0f;
      if (codec::seal_range(&least, &greatest, top, &low, &step) != 0) atomic_or(&state->wrong, kOutOfRange);
      ranges[thread].low[i] = least;
      ranges[thread].high[i] = greatest;
      const uint32_t channel = place.channel + i;
      if (a.run != 1 && channel % a.run != 0) continue;
      parameters[channel / a.run] = low;
      parameters[layout.ranges + channel / a.run] = step;
    }
  });
}

template <typename Block>
KVFERRY_DEVICE void group_encode(Block& block, const GroupArguments& a) {
  const Tile tile = a.tiles[block.y()];
  TileState* state = a.states + block.y();
  const GroupLayout layout = layout_of(a, tile);
  const uint32_t first = block.x() * Block::threads;
  if (first >= layout.units * a.shape.all_heads() * a.shape.lanes) return;
  Places<Block> places;
  EachRanges<Block> ranges;
  Floats<Block> values;
  block.each([&](uint32_t thread) {
    Place& place = places[thread] = place_of(a.shape, first + thread, layout.units);
    place.row *= layout.rows;
    for (uint32_t i = 0; i < kRun; i++) {
      ranges[thread].low[i] = codec::float_of(codec::kInfinity);
      ranges[thread].high[i] = -ranges[thread].low[i];
    }
  });
  // Places as they are in row `row` of their unit: the last unit may be shorter.
  const auto in_row = [&](uint32_t thread, uint32_t row) {
    Place place = places[thread];
    place.row += row;
    place.is_valid = place.is_valid && place.row < tile.coded;
    return place;
  };
  Places<Block> here;
  const uint32_t rows = layout.rows < tile.coded ? layout.rows : tile.coded;
  for (uint32_t row = 0; row < rows; row++) {
    block.each([&](uint32_t thread) { here[thread] = in_row(thread, row); });
    forward(block, a.shape, a.kv, tile, here, values);
    block.each([&](uint32_t thread) {
      if (!here[thread].is_valid) return;
      if (!are_finite(values[thread])) atomic_or(&state->wrong, kNotFinite);
      for (uint32_t i = 0; i < kRun; i++) {
        const float value = values[thread][i];
        ranges[thread].low[i] = value < ranges[thread].low[i] ? value : ranges[thread].low[i];
        ranges[thread].high[i] = value > ranges[thread].high[i] ? value : ranges[thread].high[i];
      }
    });
  }
  if (a.run != 1) share_ranges(block, a, ranges);
  seal_ranges(block, a, tile, state, places, ranges);
  for (uint32_t row = 0; row < rows; row++) {
    if (rows > 1) {
      block.each([&](uint32_t thread) { here[thread] = in_row(thread, row); });
      forward(block, a.shape, a.kv, tile, here, values);
    }
    block.each([&](uint32_t thread) {
      const Place& place = here[thread];
      if (!place.is_valid) return;
      const uint32_t bits = a.bits[place.head];
      const float top = float(int32_t(a.levels[place.head]) - 1);
      uint64_t word = 0;
      for (uint32_t i = 0; i < kRun; i++) {
        const uint32_t range = a.run == 1 ? i : 0;
        word |= uint64_t(codec::group_code(values[thread][i], ranges[thread].low[range], ranges[thread].high[range], top)) << (i * bits);
      }
      store_codes(codes_at(a, tile, place), word, bits);
    });
  }
}

template <typename Block>
KVFERRY_DEVICE void group_decode(Block& block, const GroupArguments& a) {
  const Tile tile = a.tiles[block.y()];
  const GroupLayout layout = layout_of(a, tile);
  const uint32_t first = block.x() * Block::threads;
  if (first >= tile.coded * a.shape.all_heads() * a.shape.lanes) return;
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
