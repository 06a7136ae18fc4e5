#include "quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "rans.h"

namespace kvferry::codec {
namespace {

// Floats of a band, so that it stays in a core's first cache; a KLT reads its matrix once for each band, so a band has some rows at least.
constexpr size_t kBandFloats = 3072;
constexpr size_t kKltRows = 32;

void put_varint(uint32_t number, std::vector<uint8_t>* to) {
  for (; number >= 128; number >>= 7) to->push_back(uint8_t(number | 128));
  to->push_back(uint8_t(number));
}

// False: it does not end, or is longer than need be.
bool take_varint(const uint8_t** at, const uint8_t* end, uint32_t* number) {
  *number = 0;
  for (uint32_t shift = 0; shift < 35; shift += 7) {
    if (*at == end) return false;
    const uint32_t byte = *(*at)++;
    *number |= (byte & 127) << shift;
    if (byte < 128) return (shift == 0 || byte != 0) && (shift < 28 || byte < 16);
  }
  return false;
}

}  // namespace

Quantization::Quantization(const Spec& spec, Isa isa) : spec_(spec), isa_(isa), kernels_(kernels_of(isa)), width_(spec.width()) {
  for (const float step : spec.steps) inverse_steps_.push_back(1 / step);
  if (spec.quantizer == Quantizer::step) symbols_.assign(width_, kEscape);
  for (size_t column = 0; column < spec.classes.size(); column++) symbols_[column] = gaussian_symbols(spec.classes[column]);
  if (spec.quantizer != Quantizer::group) return;
  const size_t heads = size_t(spec.parts) * spec.heads;
  run_ = spec.axis == Axis::token ? std::min(spec.group, spec.channels) : spec.axis == Axis::channel ? 1 : spec.channels;
  const size_t of_head = (spec.channels + run_ - 1) / run_;
  ranges_ = heads * of_head;
  const size_t rows = spec.axis == Axis::token ? wanted_rows() : 1;
  for (size_t range = 0; range < rows * ranges_; range++) tops_.push_back(float(spec.levels[range % ranges_ / of_head] - 1));
}

size_t Quantization::wanted_rows() const { return std::max(kBandFloats / width_, spec_.klt_block != 0 ? kKltRows : size_t(1)); }

// What rows share is kept from band to band.
size_t Quantization::decoding_band(size_t rows) const { return std::max<size_t>(1, std::min(rows, wanted_rows())); }

size_t Quantization::band(size_t rows) const {
  const size_t wanted = wanted_rows();
  size_t unit = 1;
  if (spec_.quantizer == Quantizer::group) unit = spec_.axis == Axis::token ? 1 : range_rows(rows);
  return std::max<size_t>(1, std::min(rows, std::max(unit, wanted / unit * unit)));
}

// Rows that share their ranges.
size_t Quantization::range_rows(size_t rows) const {
  return spec_.axis == Axis::token ? 1 : spec_.axis == Axis::channel ? spec_.group : std::max<size_t>(1, rows);
}

size_t Quantization::code_bytes(size_t rows) const {
  return rows * width_ * (spec_.quantizer == Quantizer::none ? element_bytes(spec_.element) : 1);
}

size_t Quantization::parameter_count(size_t rows) const {
  if (spec_.quantizer == Quantizer::cachegen) return rows * spec_.parts;
  if (spec_.quantizer != Quantizer::group) return 0;
  const size_t of_range = range_rows(rows);
  return (rows + of_range - 1) / of_range * ranges_ * 2;
}

std::vector<Segment> Quantization::segments(size_t rows) const {
  std::vector<Segment> found;
  const auto add = [&found](size_t count, uint32_t levels) {
    if (count == 0) return;
    if (!found.empty() && found.back().levels == levels) {
      found.back().count += count;
    } else {
      found.push_back({count, levels});
    }
  };
  for (const RowSet& set : row_sets(spec_, rows)) {
    if (spec_.quantizer == Quantizer::group) {
      for (const uint16_t levels : spec_.levels) add(set.count * spec_.channels, levels);
    } else if (spec_.quantizer == Quantizer::cachegen) {
      for (size_t part = 0; part < spec_.parts; part++) add(set.count * spec_.part_width(), uint32_t(2 * half_of(set, part) + 1));
    } else {
      add(set.count * width_, 256);
    }
  }
  return found;
}

void Quantization::pass(const RowSet& set, Codes* codes) const {
  const size_t bytes = code_bytes(set.count);
  if (codes->codes != nullptr) codes->codes += bytes;
  if (codes->given != nullptr) codes->given += bytes * codes->bits / 8;
  // CacheGen's lie token by token, whichever set a token is of.
  if (spec_.quantizer != Quantizer::cachegen) codes->parameters += parameter_count(set.count);
}

Stored Quantization::encode(float* values, size_t first, size_t count, const RowSet& set, Codes* codes) const {
  // A step finds by itself what is no number, among what does not fit.
  if (spec_.quantizer != Quantizer::step && !kernels_.is_finite(values, count * width_)) return Stored::not_finite;
  switch (spec_.quantizer) {
    case Quantizer::none: return encode_elements(values, first, count, codes);
    case Quantizer::step: return encode_steps(values, first, count, codes);
    case Quantizer::group: return encode_groups(values, first, count, set.count, codes);
    case Quantizer::fp8: kernels_.fp8(spec_.format, values, count * width_, codes->codes + first * width_); return Stored::no;
    case Quantizer::cachegen: return encode_bins(values, first, count, set, codes);
  }
  return Stored::incompressible;
}

bool Quantization::decode(Codes* codes, size_t first, size_t count, const RowSet& set, float* values) const {
  switch (spec_.quantizer) {
    case Quantizer::none: kernels_.load(spec_.element, codes->given + first * spec_.row_bytes(), count * width_, values); return true;
    case Quantizer::step: return decode_steps(codes, first, count, values);
    case Quantizer::group: decode_groups(codes, first, count, set.count, values); return true;
    case Quantizer::fp8: kernels_.unfp8(spec_.format, codes->given + first * width_, count * width_, values); return true;
    case Quantizer::cachegen: decode_bins(codes, first, count, set, values); return true;
  }
  return false;
}

Stored Quantization::encode_elements(float* values, size_t first, size_t count, Codes* codes) const {
  uint8_t* to = codes->codes + first * spec_.row_bytes();
  kernels_.store(spec_.element, values, count * width_, to);
  kernels_.load(spec_.element, to, count * width_, values);
  return kernels_.is_finite(values, count * width_) ? Stored::no : Stored::out_of_range;
}

Stored Quantization::encode_steps(const float* values, size_t first, size_t count, Codes* codes) const {
  for (size_t r = 0; r < count; r++) {
    const float* row = values + r * width_;
    uint8_t* to = codes->codes + (first + r) * width_;
    if (!kernels_.step(row, width_, inverse_steps_.data(), symbols_.data(), to)) continue;
    if (const Stored stored = escape(row, to, &codes->side); stored != Stored::no) return stored;
  }
  return Stored::no;
}

Stored Quantization::escape(const float* row, const uint8_t* codes, std::vector<uint8_t>* side) const {
  for (size_t i = 0; i < width_; i++) {
    const void* found = memchr(codes + i, kEscape, width_ - i);
    if (found == nullptr) break;
    i = size_t(static_cast<const uint8_t*>(found) - codes);
    const float t = row[i] * inverse_steps_[i];
    if (!std::isfinite(row[i])) return Stored::not_finite;
    if (!(std::fabs(t) < 0x1p31f)) return Stored::out_of_range;
    put_varint(zigzag_of(int32_t(std::rint(t))), side);
  }
  return Stored::no;
}

bool Quantization::decode_steps(Codes* codes, size_t first, size_t count, float* values) const {
  for (size_t r = 0; r < count; r++) {
    float* row = values + r * width_;
    const uint8_t* from = codes->given + (first + r) * width_;
    kernels_.unstep(from, width_, spec_.steps.data(), row);
    for (size_t i = 0; i < width_; i++) {
      const void* found = memchr(from + i, kEscape, width_ - i);
      if (found == nullptr) break;
      i = size_t(static_cast<const uint8_t*>(found) - from);
      uint32_t zigzag;
      if (!take_varint(&codes->side_at, codes->side_end, &zigzag)) return false;
      row[i] = float(from_zigzag(zigzag)) * spec_.steps[i];
    }
  }
  // Behind the last row nothing may be left: the caller looks.
  return true;
}

}  // namespace kvferry::codec
