// Groups with a least and a greatest value. Codes lie head by head (within a part's head row by row), so that heads of other levels are packed apart.
// Ranges lie in the order of rows (of rows of groups, by channel) and in it of columns: all lows of a row, then all steps.
#include <algorithm>
#include <cstring>

#include "ahead.h"
#include "pack.h"
#include "quantize.h"

namespace kvferry::codec {

// Of `count` rows to lows and steps (the highs until they are sealed): those of each row, or those that they share.
void Quantization::find_ranges(const float* values, size_t count, Codes* codes) const {
  float* lows = codes->lows.data();
  float* highs = codes->steps.data();
  const size_t heads = size_t(spec_.parts) * spec_.heads, of_head = ranges_ / heads;
  if (spec_.axis == Axis::channel) {
    for (size_t i = 0; i < width_; i++) lows[i] = highs[i] = values[i];
    for (size_t r = 1; r < count; r++) kernels_.range_of_columns(values + r * width_, width_, lows, highs);
    return;
  }
  if (spec_.axis == Axis::token) {
    // Where runs end with their heads, rows and heads are runs one after the other.
    if (spec_.channels % run_ == 0) return kernels_.range_of_runs(values, count * width_, run_, lows, highs);
    for (size_t h = 0; h < count * heads; h++) {
      kernels_.range_of_runs(values + h * spec_.channels, spec_.channels, run_, lows + h * of_head, highs + h * of_head);
    }
    return;
  }
  kernels_.range_of_runs(values, width_, run_, lows, highs);
  for (size_t r = 1; r < count; r++) {
    for (size_t h = 0; h < heads; h++) {
      float low, high;
      kernels_.range_of_runs(values + r * width_ + h * spec_.channels, spec_.channels, run_, &low, &high);
      lows[h] = low < lows[h] ? low : lows[h];
      highs[h] = high > highs[h] ? high : highs[h];
    }
  }
}

// Rows of ranges between what a decoder sees and parameters, which are each row's lows and then its steps.
bool Quantization::seal_ranges(size_t rows, uint16_t* parameters, Codes* codes) const {
  codes->halves.resize(2 * rows * ranges_);
  uint16_t* lows = codes->halves.data();
  uint16_t* steps = lows + rows * ranges_;
  const bool fits = kernels_.seal(codes->lows.data(), codes->steps.data(), rows * ranges_, tops_.data(), lows, steps);
  for (size_t row = 0; row < rows; row++) {
    std::copy_n(lows + row * ranges_, ranges_, parameters + row * ranges_ * 2);
    std::copy_n(steps + row * ranges_, ranges_, parameters + row * ranges_ * 2 + ranges_);
  }
  return fits;
}

void Quantization::unseal_ranges(const uint16_t* parameters, size_t rows, Codes* codes) const {
  codes->halves.resize(2 * rows * ranges_);
  uint16_t* lows = codes->halves.data();
  uint16_t* steps = lows + rows * ranges_;
  for (size_t row = 0; row < rows; row++) {
    std::copy_n(parameters + row * ranges_ * 2, ranges_, lows + row * ranges_);
    std::copy_n(parameters + row * ranges_ * 2 + ranges_, ranges_, steps + row * ranges_);
  }
  codes->lows.resize(rows * ranges_);
  codes->steps.resize(rows * ranges_);
  kernels_.unseal(lows, steps, rows * ranges_, codes->lows.data(), codes->steps.data());
}

// Codes that are whole bytes where they lie.
const uint8_t* Quantization::given_run(size_t at, size_t count, Codes* codes) const {
  const uint8_t* from = codes->given + at * codes->bits / 8;
  const size_t bytes = count * codes->bits / 8;
  ask_ahead<0>(from, bytes);
  if (codes->bits == 8) return from;
  codes->unpacked.resize(std::max(codes->unpacked.size(), count));
  unpack(packing_of(1u << codes->bits), from, bytes, codes->unpacked.data(), count, isa_);
  return codes->unpacked.data();
}

Stored Quantization::encode_groups(const float* values, size_t first, size_t count, size_t rows, Codes* codes) const {
  const size_t heads = size_t(spec_.parts) * spec_.heads, channels = spec_.channels, of_range = range_rows(rows), of_head = ranges_ / heads;
  // Rows that each have ranges of their own are done at once, others by those that share them.
  const bool is_own = spec_.axis == Axis::token;
  const size_t at_once = is_own ? count : of_range;
  for (size_t from = 0; from < count; from += at_once) {
    const size_t shared = std::min(count - from, at_once), range_count = is_own ? shared : 1;
    codes->lows.resize(range_count * ranges_);
    codes->steps.resize(range_count * ranges_);
    find_ranges(values + from * width_, shared, codes);
    if (!seal_ranges(range_count, codes->parameters + (first + from) / of_range * ranges_ * 2, codes)) return Stored::out_of_range;
    for (size_t h = 0; h < heads; h++) {
      const float* head = values + from * width_ + h * channels;
      uint8_t* to = codes->codes + (h * rows + first + from) * channels;
      const float* lows = codes->lows.data() + h * of_head;
      const float* inverses = codes->steps.data() + h * of_head;
      const float top = tops_[h * of_head];
      if (spec_.axis != Axis::channel) {
        kernels_.group_runs(head, shared, width_, channels, run_, lows, inverses, is_own ? ranges_ : 0, top, to);
        continue;
      }
      for (size_t r = 0; r < shared; r++) kernels_.group_columns(head + r * width_, channels, lows, inverses, top, to + r * channels);
    }
  }
  return Stored::no;
}

void Quantization::decode_groups(Codes* codes, size_t first, size_t count, size_t rows, float* values) const {
  const size_t heads = size_t(spec_.parts) * spec_.heads, channels = spec_.channels, of_range = range_rows(rows), of_head = ranges_ / heads;
  const bool is_own = spec_.axis == Axis::token;
  for (size_t r = 0; r < count;) {
    // As far as ranges go that are of this row, and of those behind it.
    const size_t shared = is_own ? count : std::min(count - r, of_range - (first + r) % of_range);
    const bool is_new = is_own || (first + r) % of_range == 0;
    if (is_new) unseal_ranges(codes->parameters + (first + r) / of_range * ranges_ * 2, is_own ? shared : 1, codes);
    for (size_t h = 0; h < heads; h++) {
      const uint8_t* from = given_run((h * rows + first + r) * channels, shared * channels, codes);
      float* head = values + r * width_ + h * channels;
      const float* lows = codes->lows.data() + h * of_head;
      const float* steps = codes->steps.data() + h * of_head;
      if (spec_.axis != Axis::channel) {
        kernels_.ungroup_runs(from, shared, channels, run_, lows, steps, is_own ? ranges_ : 0, head, width_);
        continue;
      }
      for (size_t i = 0; i < shared; i++) kernels_.ungroup_columns(from + i * channels, channels, lows, steps, head + i * width_);
    }
    r += shared;
  }
}

}  // namespace kvferry::codec
