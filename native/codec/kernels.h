// The loops of a codec, one table of them for each instruction set. The text is the same for all (row_loops.h, code_loops.h, product_loops.h), compiled several
// times: what is added in which order, and where fma rounds once, stands in the text, so that every table gives the same bits. Pointers need no alignment,
// nothing may overlap.
#pragma once
#include <cstddef>
#include <cstdint>

#include "isa.h"
#include "spec.h"
#include "value_codes.h"

namespace kvferry::codec {

// Columns of a panel: a KLT's matrix lies in memory as its columns, this many at a time.
constexpr size_t kPanel = 32;

struct Kernels {
  // Elements to floats and back; `store_finite`: what would round to infinity becomes the largest finite element.
  void (*load)(Element element, const uint8_t* from, size_t count, float* to);
  void (*store)(Element element, const float* from, size_t count, uint8_t* to);
  void (*store_finite)(Element element, const float* from, size_t count, uint8_t* to);
  bool (*is_finite)(const float* values, size_t count);

  // Cosine and sine of position x frequency, for each frequency.
  void (*angles)(const double* frequencies, size_t count, double position, float* cosines, float* sines);
  // Turns the first 2 x pairs channels of each head by the angle (`back`: by its opposite).
  void (*rotate)(float* row, size_t heads, size_t channels, Pairing pairing, size_t pairs, const float* cosines, const float* sines,
                 bool back);
  // (x - mean) * scale, and x * unscale + mean.
  void (*center)(float* row, size_t count, const float* mean, const float* scale);
  void (*uncenter)(float* row, size_t count, const float* mean, const float* unscale);
  // Signs, then Hadamard over each head, divided by the root of channels; `back`: Hadamard, then signs.
  void (*hadamard)(float* row, size_t heads, size_t channels, const float* signs, float norm, bool back);
  // to[row][column] = sum over k of rows[row][k] * panels[column / kPanel][k][column % kPanel], in the order of k. `stride` floats from row to row
  // of both.
  void (*product)(const float* rows, size_t count, size_t stride, const float* panels, size_t block, float* to);

  // Codes of a uniform step: zigzag of the nearest integer; 255 where that is not below the column's symbols, or is no number. True: there
  // are such.
  bool (*step)(const float* row, size_t count, const float* inverse_steps, const uint32_t* symbols, uint8_t* codes);
  void (*unstep)(const uint8_t* codes, size_t count, const float* steps, float* row);

  // The least and greatest of each run of `group` values (the last may be shorter), and of each column over rows: there lows and highs are
  // updated.
  void (*range_of_runs)(const float* values, size_t count, size_t group, float* lows, float* highs);
  void (*range_of_columns)(const float* row, size_t count, float* lows, float* highs);
  // Ranges to parameters: f16 not above the low, bf16 step that reaches the high. Makes lows what a decoder sees, and highs 1 / step. False:
  // out of f16's range.
  bool (*seal)(float* lows, float* highs, size_t count, const float* tops, uint16_t* low_parameters, uint16_t* step_parameters);
  void (*unseal)(const uint16_t* low_parameters, const uint16_t* step_parameters, size_t count, float* lows, float* steps);
  // Code = nearest of (x - low) / step in 0 .. top; of runs of `group` values in each of some rows, which lie `stride` floats and `ranges` ranges apart and
  // whose codes follow one another, or of columns.
  void (*group_runs)(const float* values, size_t rows, size_t stride, size_t count, size_t group, const float* lows, const float* inverses,
                     size_t ranges, float top, uint8_t* codes);
  void (*group_columns)(const float* row, size_t count, const float* lows, const float* inverses, float top, uint8_t* codes);
  void (*ungroup_runs)(const uint8_t* codes, size_t rows, size_t count, size_t group, const float* lows, const float* steps, size_t ranges,
                       float* values, size_t stride);
  void (*ungroup_columns)(const uint8_t* codes, size_t count, const float* lows, const float* steps, float* row);

  void (*fp8)(Fp8 format, const float* values, size_t count, uint8_t* codes);
  void (*unfp8)(Fp8 format, const uint8_t* codes, size_t count, float* values);
};

const Kernels& kernels_of(Isa isa);

}  // namespace kvferry::codec
