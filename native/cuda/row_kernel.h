// What is quantized value by value, as rows of codes: steps with escapes, fp8, elements as they are, and the split of elements for the lossless coder.
#pragma once
#include "rows.h"

namespace kvferry::cuda {

// What a code is: `halves` is an element split into its exponent (the code) and the rest (to the stream).
enum class RowCode : uint32_t { step, fp8, element, halves };

struct RowArguments {
  Shape shape;
  Paged kv;
  const Tile* tiles;
  TileState* states;
  RowCode code;
  Fp8 format;
  const float* steps;  // of the width, as the next two
  const float* inverse_steps;
  const uint32_t* symbols;
};

struct AngleArguments {
  const Tile* tiles;
  const double* frequencies;
  uint32_t pairs;
  float* angles;  // of each row of the batch: cosines, then sines
};

// A value beyond its column's symbols: its place among the tile's codes, and itself.
KVFERRY_DEVICE void note_escape(const Tile& tile, TileState* state, uint32_t place, float value, float inverse_step) {
  const float t = value * inverse_step;
  if ((codec::bits_of(value) & 0x7FFFFFFF) >= codec::kInfinity) return atomic_or(&state->wrong, kNotFinite);
  if (!(__builtin_fabsf(t) < 0x1p31f)) return atomic_or(&state->wrong, kOutOfRange);
  const uint32_t at = atomic_add(&state->escapes, 1);
  if (at >= tile.room) return atomic_or(&state->wrong, kIncompressible);
  tile.escapes[2 * at] = place;
  tile.escapes[2 * at + 1] = codec::zigzag_of(int32_t(__builtin_rintf(t)));
}

// The value of escape `place`; they lie in order. 0 if there is none: then the tile is refused in any case.
KVFERRY_DEVICE uint32_t escape_at(const Tile& tile, uint32_t count, uint32_t place) {
  uint32_t low = 0, high = count;
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    if (tile.escapes[2 * middle] < place) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low < count && tile.escapes[2 * low] == place ? tile.escapes[2 * low + 1] : 0;
}

KVFERRY_DEVICE uint64_t word_of(const uint8_t* codes) { return take<uint32_t>(codes) | uint64_t(take<uint32_t>(codes + 4)) << 32; }

template <typename Block>
KVFERRY_DEVICE void angles(Block& block, const AngleArguments& a) {
  const Tile& tile = a.tiles[block.y()];
  block.each([&](uint32_t thread) {
    const uint32_t index = block.x() * Block::threads + thread;
    const uint32_t row = index / a.pairs, pair = index % a.pairs;
    if (row >= tile.coded) return;
    float* to = a.angles + size_t(tile.row + row) * 2 * a.pairs;
    codec::cosine_and_sine(double(tile.position + tile.exempt + row) * a.frequencies[pair], to + pair, to + a.pairs + pair);
  });
}

template <typename Block>
KVFERRY_DEVICE void row_encode(Block& block, const RowArguments& a) {
  const Tile tile = a.tiles[block.y()];
  TileState* state = a.states + block.y();
  const uint32_t first = block.x() * Block::threads;
  if (first >= tile.coded * a.shape.all_heads() * a.shape.lanes()) return;
  Places<Block> places;
  Floats<Block> values;
  block.each([&](uint32_t thread) { places[thread] = place_of(a.shape, first + thread, tile.coded); });
  if (a.code != RowCode::halves) forward(block, a.shape, a.kv, tile, places, values);
  block.each([&](uint32_t thread) {
    const Place& place = places[thread];
    if (!place.is_valid) return;
    const uint32_t column = place.column(a.shape), at = place.row * a.shape.width() + column;
    float* own = values[thread];
    if (a.code == RowCode::halves) {
      const uint8_t* from = address_of(a.kv, a.shape, tile.token + tile.exempt + place.row, place.head, place.channel);
      const uint64_t stride = a.kv.planes[place.head / a.shape.heads].channel_stride;
      for (uint32_t i = 0; i < kRun; i++) {
        const uint32_t half = take<uint16_t>(from + i * stride);
        tile.codes[at + i] = uint8_t(half >> 7);
        tile.stream[at + i] = uint8_t((half & 0x7f) | (half >> 8 & 0x80));
      }
      return;
    }
    if (a.code != RowCode::step && !are_finite(own)) atomic_or(&state->wrong, kNotFinite);
    if (a.code == RowCode::element) {
      store_run<false>(tile.codes + size_t(at) * a.shape.element_bytes(), a.shape.element_bytes(), a.shape.element, own);
      if (a.shape.element == Element::f32) return;
      for (uint32_t i = 0; i < kRun; i++) {
        own[i] = a.shape.element == Element::bf16 ? codec::from_bf16(codec::to_bf16(own[i])) : codec::from_f16(codec::to_f16(own[i]));
      }
      if (!are_finite(own)) atomic_or(&state->wrong, kOutOfRange);
      return;
    }
    uint32_t words[2] = {};
    for (uint32_t i = 0; i < kRun; i++) {
      uint32_t code = 0;
      if (a.code == RowCode::fp8) {
        code = a.format == Fp8::e4m3 ? codec::to_e4m3(own[i]) : codec::to_e5m2(own[i]);
      } else {
        code = codec::step_code(own[i], a.inverse_steps[column + i], a.symbols[column + i]);
        if (code == 255) note_escape(tile, state, at + i, own[i], a.inverse_steps[column + i]);
      }
      words[i / 4] |= code << (i % 4 * 8);
    }
    put(tile.codes + at, words[0]);
    put(tile.codes + at + 4, words[1]);
  });
}

template <typename Block>
KVFERRY_DEVICE void row_decode(Block& block, const RowArguments& a) {
  const Tile tile = a.tiles[block.y()];
  const uint32_t found = a.states[block.y()].escapes, escapes = found < tile.room ? found : tile.room;
  const uint32_t first = block.x() * Block::threads;
  if (first >= tile.coded * a.shape.all_heads() * a.shape.lanes()) return;
  Places<Block> places;
  Floats<Block> values;
  block.each([&](uint32_t thread) {
    const Place& place = places[thread] = place_of(a.shape, first + thread, tile.coded);
    float* own = values[thread];
    for (uint32_t i = 0; i < kRun; i++) own[i] = 0;
    if (!place.is_valid) return;
    const uint32_t column = place.column(a.shape), at = place.row * a.shape.width() + column;
    if (a.code == RowCode::halves) {
      uint8_t* to = address_of(a.kv, a.shape, tile.token + tile.exempt + place.row, place.head, place.channel);
      const uint64_t stride = a.kv.planes[place.head / a.shape.heads].channel_stride;
      for (uint32_t i = 0; i < kRun; i++) {
        const uint32_t rest = tile.stream[at + i];
        put(to + i * stride, uint16_t((rest & 0x7f) | uint32_t(tile.codes[at + i]) << 7 | (rest & 0x80) << 8));
      }
      return;
    }
    if (a.code == RowCode::element) return load_run(tile.codes + size_t(at) * a.shape.element_bytes(), a.shape.element_bytes(), a.shape.element, own);
    const uint64_t word = word_of(tile.codes + at);
    for (uint32_t i = 0; i < kRun; i++) {
      const uint32_t code = uint32_t(word >> (8 * i)) & 255;
      if (a.code == RowCode::fp8) {
        own[i] = a.format == Fp8::e4m3 ? codec::from_e4m3(uint8_t(code)) : codec::from_e5m2(uint8_t(code));
      } else if (code == 255) {
        own[i] = float(codec::from_zigzag(escape_at(tile, escapes, at + i))) * a.steps[column + i];
      } else {
        own[i] = codec::step_value(code, a.steps[column + i]);
      }
    }
  });
  if (a.code != RowCode::halves) inverse(block, a.shape, a.kv, tile, places, values);
}

}  // namespace kvferry::cuda
