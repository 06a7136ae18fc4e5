// CacheGen (Liu et al., SIGCOMM 2024): of every `anchor` tokens the first at 8 bits, the others as what they differ from what a decoder makes of it.
// Symmetric; a part of a token has one scale. Codes of anchors lie first, row by row, then part by part those of the others.
#include "quantize.h"

namespace kvferry::codec {
namespace {

constexpr float kAnchorHalf = 127;

// What reaches from -half to half steps.
struct Scale {
  float low, inverse, top;
};

Scale scale_of(uint16_t parameter, float half) {
  const float step = from_bf16(parameter);
  return {-half * step, step < 0x1p-125f ? 0.0f : 1.0f / step, 2 * half};
}

}  // namespace

size_t Quantization::anchored(size_t row, size_t rows, size_t part) const {
  const size_t anchor = row / spec_.anchor, part_width = spec_.part_width();
  if (row % spec_.anchor == 0) return anchor * width_ + part * part_width;
  return anchors(rows) * width_ + (part * (rows - anchors(rows)) + row - anchor - 1) * part_width;
}

Stored Quantization::encode_anchored(float* values, size_t first, size_t count, size_t rows, Codes* codes) const {
  const size_t part_width = spec_.part_width();
  codes->anchor.resize(width_);
  for (size_t r = 0; r < count; r++) {
    float* row = values + r * width_;
    const bool is_anchor = (first + r) % spec_.anchor == 0;
    if (!is_anchor) kernels_.center(row, width_, codes->anchor.data(), ones_.data());
    for (size_t part = 0; part < spec_.parts; part++) {
      float* of_part = row + part * part_width;
      const float half = is_anchor ? kAnchorHalf : float((spec_.levels[part] - 1) / 2);
      float low, high;
      kernels_.range_of_runs(of_part, part_width, part_width, &low, &high);
      const float most = -low > high ? -low : high;
      if (!(most < 0x1p100f)) return Stored::out_of_range;
      uint16_t& parameter = codes->parameters[(first + r) * spec_.parts + part];
      parameter = bf16_above(most / half);
      const Scale scale = scale_of(parameter, half);
      uint8_t* to = codes->codes + anchored(first + r, rows, part);
      kernels_.group_runs(of_part, part_width, part_width, &scale.low, &scale.inverse, scale.top, to);
      const float step = from_bf16(parameter);
      if (is_anchor) kernels_.ungroup_runs(to, part_width, part_width, &scale.low, &step, codes->anchor.data() + part * part_width);
    }
  }
  return Stored::no;
}

void Quantization::decode_anchored(Codes* codes, size_t first, size_t count, size_t rows, float* values) const {
  const size_t part_width = spec_.part_width();
  codes->anchor.resize(width_);
  for (size_t r = 0; r < count; r++) {
    float* row = values + r * width_;
    const bool is_anchor = (first + r) % spec_.anchor == 0;
    for (size_t part = 0; part < spec_.parts; part++) {
      const float half = is_anchor ? kAnchorHalf : float((spec_.levels[part] - 1) / 2);
      const uint16_t parameter = codes->parameters[(first + r) * spec_.parts + part];
      const float low = scale_of(parameter, half).low, step = from_bf16(parameter);
      const uint8_t* from = codes->given + anchored(first + r, rows, part);
      kernels_.ungroup_runs(from, part_width, part_width, &low, &step, row + part * part_width);
    }
    if (is_anchor) {
      codes->anchor.assign(row, row + width_);
    } else {
      kernels_.uncenter(row, width_, codes->anchor.data(), ones_.data());
    }
  }
}

}  // namespace kvferry::codec
