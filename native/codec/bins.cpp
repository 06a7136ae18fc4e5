// CacheGen's bins (Liu et al., SIGCOMM 2024): symmetric, as wide as what is largest in a part of a token asks for. Anchors of a delta have 8 bits. Codes of anchors
// lie row by row, those of other tokens part by part.
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

float Quantization::half_of(const RowSet& set, size_t part) const {
  return set.kind == RowSet::Kind::anchors ? kAnchorHalf : float((spec_.levels[part] - 1) / 2);
}

size_t Quantization::bins_at(size_t row, const RowSet& set, size_t part) const {
  const bool is_anchor = set.kind == RowSet::Kind::anchors;
  return (is_anchor ? row * spec_.parts + part : part * set.count + row) * spec_.part_width();
}

Stored Quantization::encode_bins(const float* values, size_t first, size_t count, const RowSet& set, Codes* codes) const {
  const size_t part_width = spec_.part_width();
  for (size_t r = 0; r < count; r++) {
    for (size_t part = 0; part < spec_.parts; part++) {
      const float* of_part = values + r * width_ + part * part_width;
      const float half = half_of(set, part);
      float low, high;
      kernels_.range_of_runs(of_part, part_width, part_width, &low, &high);
      const float most = -low > high ? -low : high;
      if (!(most < 0x1p100f)) return Stored::out_of_range;
      uint16_t& parameter = codes->parameters[set.row(first + r) * spec_.parts + part];
      parameter = bf16_above(most / half);
      const Scale scale = scale_of(parameter, half);
      kernels_.group_runs(of_part, 1, 0, part_width, part_width, &scale.low, &scale.inverse, 0, scale.top,
                          codes->codes + bins_at(first + r, set, part));
    }
  }
  return Stored::no;
}

void Quantization::decode_bins(Codes* codes, size_t first, size_t count, const RowSet& set, float* values) const {
  const size_t part_width = spec_.part_width();
  for (size_t r = 0; r < count; r++) {
    for (size_t part = 0; part < spec_.parts; part++) {
      const uint16_t parameter = codes->parameters[set.row(first + r) * spec_.parts + part];
      const float low = scale_of(parameter, half_of(set, part)).low, step = from_bf16(parameter);
      const uint8_t* from = codes->given + bins_at(first + r, set, part);
      kernels_.ungroup_runs(from, 1, part_width, part_width, &low, &step, 0, values + r * width_ + part * part_width, 0);
    }
  }
}

}  // namespace kvferry::codec
