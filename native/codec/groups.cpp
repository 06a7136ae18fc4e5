// Groups with a least and a greatest value. Codes lie head by head (within a part's head row by row), so that heads of other levels are packed apart.
// Ranges lie in the order of rows (of rows of groups, by channel) and in it of columns: all lows of a row, then all steps.
#include "quantize.h"

namespace kvferry::codec {

// Of `count` rows that share their ranges, to lows and steps (the highs until they are sealed).
void Quantization::find_range(const float* values, size_t count, Codes* codes) const {
  float* lows = codes->lows.data();
  float* highs = codes->steps.data();
  const size_t heads = size_t(spec_.parts) * spec_.heads;
  if (spec_.axis == Axis::channel) {
    for (size_t i = 0; i < width_; i++) lows[i] = highs[i] = values[i];
    for (size_t r = 1; r < count; r++) kernels_.range_of_columns(values + r * width_, width_, lows, highs);
    return;
  }
  const size_t of_head = ranges_ / heads;
  for (size_t h = 0; h < heads; h++) {
    kernels_.range_of_runs(values + h * spec_.channels, spec_.channels, run_, lows + h * of_head, highs + h * of_head);
  }
  for (size_t r = 1; r < count; r++) {
    for (size_t h = 0; h < heads; h++) {
      float low, high;
      kernels_.range_of_runs(values + r * width_ + h * spec_.channels, spec_.channels, run_, &low, &high);
      lows[h] = low < lows[h] ? low : lows[h];
      highs[h] = high > highs[h] ? high : highs[h];
    }
  }
}

Stored Quantization::encode_groups(const float* values, size_t first, size_t count, size_t rows, Codes* codes) const {
  const size_t heads = size_t(spec_.parts) * spec_.heads, channels = spec_.channels, of_range = range_rows(rows), of_head = ranges_ / heads;
  codes->lows.resize(ranges_);
  codes->steps.resize(ranges_);
  for (size_t from = 0; from < count; from += of_range) {
    const size_t shared = count - from < of_range ? count - from : of_range;
    find_range(values + from * width_, shared, codes);
    uint16_t* parameters = codes->parameters + (first + from) / of_range * ranges_ * 2;
    const bool fits = kernels_.seal(codes->lows.data(), codes->steps.data(), ranges_, tops_.data(), parameters, parameters + ranges_);
    if (!fits) return Stored::out_of_range;
    for (size_t r = from; r < from + shared; r++) {
      for (size_t h = 0; h < heads; h++) {
        const float* head = values + r * width_ + h * channels;
        uint8_t* to = codes->codes + (h * rows + first + r) * channels;
        const float* lows = codes->lows.data() + h * of_head;
        const float* inverses = codes->steps.data() + h * of_head;
        const float top = tops_[h * of_head];
        if (spec_.axis == Axis::channel) {
          kernels_.group_columns(head, channels, lows, inverses, top, to);
        } else {
          kernels_.group_runs(head, channels, run_, lows, inverses, top, to);
        }
      }
    }
  }
  return Stored::no;
}

void Quantization::decode_groups(Codes* codes, size_t first, size_t count, size_t rows, float* values) const {
  const size_t heads = size_t(spec_.parts) * spec_.heads, channels = spec_.channels, of_range = range_rows(rows), of_head = ranges_ / heads;
  codes->lows.resize(ranges_);
  codes->steps.resize(ranges_);
  for (size_t r = 0; r < count; r++) {
    if ((first + r) % of_range == 0) {
      const uint16_t* parameters = codes->parameters + (first + r) / of_range * ranges_ * 2;
      kernels_.unseal(parameters, parameters + ranges_, ranges_, codes->lows.data(), codes->steps.data());
    }
    for (size_t h = 0; h < heads; h++) {
      const uint8_t* from = codes->given + (h * rows + first + r) * channels;
      float* head = values + r * width_ + h * channels;
      if (spec_.axis == Axis::channel) {
        kernels_.ungroup_columns(from, channels, codes->lows.data() + h * of_head, codes->steps.data() + h * of_head, head);
      } else {
        kernels_.ungroup_runs(from, channels, run_, codes->lows.data() + h * of_head, codes->steps.data() + h * of_head, head);
      }
    }
  }
}

}  // namespace kvferry::codec
