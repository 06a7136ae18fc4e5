// The KLT: rows of a wave of tiles, transformed and as f16, times a matrix on tensor cores. Encoding quantizes sums where they arise; decoding leaves them as rows of
// floats for the way back to the pages. f16 rounds to 2^-12, four times finer than bf16 as fast; values beyond it are refused by name.
#pragma once
#include "matrix.h"
#include "row_kernel.h"

namespace kvferry::cuda {

constexpr uint32_t kProductThreads = 256;
constexpr uint32_t kProductRows = 128, kProductColumns = 128;  // of a block
constexpr float kHalfMost = 65504.0f;

struct WaveArguments {
  RowArguments row;      // whose tiles are the wave's
  uint32_t first_row;    // of the batch
  uint16_t* halves;      // f16, of the wave's rows
  const float* product;
};

struct ProductArguments {
  const uint16_t* halves;    // rows of `width`
  const uint16_t* matrices;  // of width / block columns each block x block; rows are components
  uint32_t rows, width, block;
  const Tile* tiles;  // of the wave
  TileState* states;
  uint32_t tile_count, first_row;
  const float* inverse_steps;
  const uint32_t* symbols;
  float* product;
};

// Shared memory of a block: factors twice, so that the next ones come while these are multiplied; then sums of each warp on their way out.
struct ProductMemory {
  uint16_t left[2][kProductRows * kFactorStride];
  uint16_t right[2][kProductColumns * kFactorStride];
  float sums[kProductThreads / kWarp][kPiece * kSumStride];
};

// What is beyond f16 makes its tile `wrong`; nothing follows from it, so that the reason stays.
KVFERRY_DEVICE uint16_t half_within(float value, uint32_t wrong, TileState* state) {
  if (__builtin_fabsf(value) <= kHalfMost) return codec::to_f16(value);
  atomic_or(&state->wrong, wrong);
  return 0;
}

// Pages to f16.
template <typename Block>
KVFERRY_DEVICE void wave_forward(Block& block, const WaveArguments& a) {
  const Shape& shape = a.row.shape;
  const Tile tile = a.row.tiles[block.y()];
  const uint32_t first = block.x() * Block::threads;
  if (first >= tile.coded * shape.all_heads() * shape.lanes()) return;
  Places<Block> places;
  Floats<Block> values;
  block.each([&](uint32_t thread) { places[thread] = place_of(shape, first + thread, tile.coded); });
  forward(block, shape, a.row.kv, tile, places, values);
  block.each([&](uint32_t thread) {
    const Place& place = places[thread];
    if (!place.is_valid) return;
    Words words = {};
    const uint32_t wrong = are_finite(values[thread]) ? kOutOfRange : kNotFinite;
    for (uint32_t i = 0; i < kRun; i++) {
      words.word[i / 2] |= uint32_t(half_within(values[thread][i], wrong, a.row.states + block.y())) << (i % 2 * 16);
    }
    const size_t at = size_t(tile.row + place.row - a.first_row) * shape.width() + place.column(shape);
    put(reinterpret_cast<uint8_t*>(a.halves + at), words);
  });
}

// Codes to f16.
template <typename Block>
KVFERRY_DEVICE void wave_unstep(Block& block, const WaveArguments& a) {
  const Shape& shape = a.row.shape;
  const Tile tile = a.row.tiles[block.y()];
  const uint32_t found = a.row.states[block.y()].escapes, escapes = found < tile.room ? found : tile.room;
  const uint32_t first = block.x() * Block::threads;
  if (first >= tile.coded * shape.all_heads() * shape.lanes()) return;
  block.each([&](uint32_t thread) {
    const Place place = place_of(shape, first + thread, tile.coded);
    if (!place.is_valid) return;
    const uint32_t column = place.column(shape), at = place.row * shape.width() + column;
    const uint64_t word = word_of(tile.codes + at);
    Words words = {};
    for (uint32_t i = 0; i < kRun; i++) {
      const uint32_t code = uint32_t(word >> (8 * i)) & 255;
      const float step = a.row.steps[column + i];
      const float value = code == 255 ? float(codec::from_zigzag(escape_at(tile, escapes, at + i))) * step : codec::step_value(code, step);
      words.word[i / 2] |= uint32_t(half_within(value, kOutOfRange, a.row.states + block.y())) << (i % 2 * 16);
    }
    put(reinterpret_cast<uint8_t*>(a.halves + size_t(tile.row + place.row - a.first_row) * shape.width() + column), words);
  });
}

// Sums to pages.
template <typename Block>
KVFERRY_DEVICE void wave_inverse(Block& block, const WaveArguments& a) {
  const Shape& shape = a.row.shape;
  const Tile tile = a.row.tiles[block.y()];
  const uint32_t first = block.x() * Block::threads;
  if (first >= tile.coded * shape.all_heads() * shape.lanes()) return;
  Places<Block> places;
  Floats<Block> values;
  block.each([&](uint32_t thread) {
    const Place& place = places[thread] = place_of(shape, first + thread, tile.coded);
    for (uint32_t i = 0; i < kRun; i++) values[thread][i] = 0;
    if (!place.is_valid) return;
    const float* from = a.product + size_t(tile.row + place.row - a.first_row) * shape.width() + place.column(shape);
    for (uint32_t i = 0; i < kRun; i++) values[thread][i] = from[i];
  });
  inverse(block, shape, a.row.kv, tile, places, values);
}

// The factors from column `k` on: rows of the wave, and columns of the matrix, or (kIsBack) its rows.
template <bool kIsBack, typename Block>
KVFERRY_DEVICE void copy_factors(Block& block, const ProductArguments& a, uint32_t first_row, uint32_t first_column, uint32_t k,
                                 ProductMemory* memory, uint32_t buffer) {
  constexpr uint32_t kOnce = sizeof(Words) / sizeof(uint16_t);
  const uint32_t in_block = first_column % a.block, base = first_column - in_block;  // of the matrix's columns
  const uint16_t* matrix = a.matrices + size_t(base) * a.block;
  block.each([&](uint32_t thread) {
    for (uint32_t at = thread; at < kProductRows * kDepth / kOnce; at += Block::threads) {
      const uint32_t row = at / (kDepth / kOnce), column = k + at % (kDepth / kOnce) * kOnce;
      const bool is_there = first_row + row < a.rows && column < a.block;
      const uint16_t* from = is_there ? a.halves + size_t(first_row + row) * a.width + base + column : a.halves;
      copy_ahead(memory->left[buffer] + row * kFactorStride + column - k, from, is_there);
    }
    for (uint32_t at = thread; at < kProductColumns * kDepth / kOnce; at += Block::threads) {
      // Of the matrix: which component, and which of its numbers.
      const uint32_t wide = kIsBack ? kProductColumns : kDepth;
      const uint32_t outer = at / (wide / kOnce), inner = at % (wide / kOnce) * kOnce;
      const uint32_t component = kIsBack ? k + outer : in_block + outer, number = kIsBack ? in_block + inner : k + inner;
      const bool is_there = component < a.block && number < a.block;
      const uint16_t* from = is_there ? matrix + size_t(component) * a.block + number : a.matrices;
      copy_ahead(memory->right[buffer] + outer * (kIsBack ? kWideStride : kFactorStride) + inner, from, is_there);
    }
  });
}

// The tile of a row of the wave: the last that begins at or before it.
KVFERRY_DEVICE uint32_t tile_of_row(const ProductArguments& a, uint32_t row) {
  uint32_t low = 0, high = a.tile_count;
  while (high - low > 1) {
    const uint32_t middle = low + (high - low) / 2;
    if (a.tiles[middle].row <= row + a.first_row) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

// Eight sums of a row, from column `column` on.
template <bool kIsBack>
KVFERRY_DEVICE void leave(const ProductArguments& a, uint32_t row, uint32_t column, const float* sums) {
  if (kIsBack) {
    for (uint32_t i = 0; i < kRun; i++) a.product[size_t(row) * a.width + column + i] = sums[i];
    return;
  }
  const uint32_t index = tile_of_row(a, row);
  const Tile& tile = a.tiles[index];
  const uint32_t at = (row + a.first_row - tile.row) * a.width + column;
  uint32_t words[2] = {};
  for (uint32_t i = 0; i < kRun; i++) {
    const uint32_t code = codec::step_code(sums[i], a.inverse_steps[column + i], a.symbols[column + i]);
    if (code == 255) note_escape(tile, a.states + index, at + i, sums[i], a.inverse_steps[column + i]);
    words[i / 4] |= code << (i % 4 * 8);
  }
  put(tile.codes + at, words[0]);
  put(tile.codes + at + 4, words[1]);
}

template <bool kIsBack, typename Block>
KVFERRY_DEVICE void multiply_block(Block& block, const ProductArguments& a) {
  ProductMemory* memory = block.template shared<ProductMemory>();
  // Blocks of columns of a matrix; the last of each matrix may be narrower.
  const uint32_t of_matrix = divided_up(a.block, kProductColumns);
  const uint32_t first_column = block.y() / of_matrix * a.block + block.y() % of_matrix * kProductColumns;
  const uint32_t end_column = block.y() / of_matrix * a.block + a.block;
  const uint32_t first_row = block.x() * kProductRows;
  typename Block::template EachWarp<Sums> sums;
  block.each_warp([&](uint32_t warp) { clear(sums[warp]); });
  copy_factors<kIsBack>(block, a, first_row, first_column, 0, memory, 0);
  for (uint32_t k = 0; k < a.block; k += kDepth) {
    const uint32_t buffer = k / kDepth % 2;
    block.phase([&](uint32_t) { wait_for_copies(); });
    if (k + kDepth < a.block) copy_factors<kIsBack>(block, a, first_row, first_column, k + kDepth, memory, 1 - buffer);
    block.each_warp([&](uint32_t warp) {
      const uint16_t* left = memory->left[buffer] + warp / 2 * kPieceRows * kPiece * kFactorStride;
      const uint32_t column = warp % 2 * kPieceColumns * kPiece;
      multiply<kIsBack>(sums[warp], left, memory->right[buffer] + (kIsBack ? column : column * kFactorStride));
    });
  }
  KVFERRY_UNROLL
  for (uint32_t m = 0; m < kPieceRows; m++) {
    KVFERRY_UNROLL
    for (uint32_t n = 0; n < kPieceColumns; n++) {
      block.each_warp([&](uint32_t warp) { store(sums[warp], m, n, memory->sums[warp]); });
      block.sync_warps();
      block.each([&](uint32_t thread) {
        const uint32_t warp = thread / kWarp, lane = thread % kWarp;
        const uint32_t row = first_row + (warp / 2 * kPieceRows + m) * kPiece + lane / 2;
        const uint32_t column = first_column + (warp % 2 * kPieceColumns + n) * kPiece + lane % 2 * kRun;
        if (row < a.rows && column < end_column) leave<kIsBack>(a, row, column, memory->sums[warp] + lane / 2 * kSumStride + lane % 2 * kRun);
      });
      block.sync_warps();
    }
  }
}

template <typename Block>
KVFERRY_DEVICE void product_encode(Block& block, const ProductArguments& a) {
  multiply_block<false>(block, a);
}

template <typename Block>
KVFERRY_DEVICE void product_decode(Block& block, const ProductArguments& a) {
  multiply_block<true>(block, a);
}

}  // namespace kvferry::cuda
