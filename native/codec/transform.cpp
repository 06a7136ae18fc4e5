#include "transform.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "ahead.h"

namespace kvferry::codec {

Transform::Transform(const Spec& spec, const Kernels& kernels)
    : spec_(spec),
      kernels_(kernels),
      frequencies_(spec.inverse_frequencies.begin(), spec.inverse_frequencies.end()),
      signs_(spec.signs.begin(), spec.signs.end()),
      ones_(spec.anchor == 0 ? 0 : spec.width(), 1.0f),
      norm_(1 / std::sqrt(float(spec.channels))) {
  if (!spec.mean.empty() || !spec.scale.empty()) {
    mean_ = spec.mean.empty() ? std::vector<float>(spec.width(), 0.0f) : spec.mean;
    scale_ = spec.scale.empty() ? std::vector<float>(spec.width(), 1.0f) : spec.scale;
    for (const float scale : scale_) unscale_.push_back(1 / scale);
  }
}

// One matrix after another, each as panels of kPanel columns; columns beyond the last are zero.
std::vector<float> Transform::panels_of(bool is_inverse) const {
  const size_t block = spec_.klt_block, blocks = spec_.width() / block;
  const size_t panels = (block + kPanel - 1) / kPanel;
  std::vector<float> made(blocks * panels * block * kPanel, 0.0f);
  float* to = made.data();
  for (size_t b = 0; b < blocks; b++) {
    const float* matrix = spec_.matrices.data() + b * block * block;
    for (size_t first = 0; first < panels * kPanel; first += kPanel) {
      for (size_t k = 0; k < block; k++, to += kPanel) {
        for (size_t column = first; column < std::min(block, first + kPanel); column++) {
          to[column - first] = is_inverse ? matrix[k * block + column] : matrix[column * block + k];
        }
      }
    }
  }
  return made;
}

void Transform::multiply(const float* from, size_t count, bool is_inverse, float* to) const {
  Panels& made = is_inverse ? inverse_ : forward_;
  std::call_once(made.once, [&] { made.floats = panels_of(is_inverse); });
  const std::vector<float>& panels = made.floats;
  const size_t block = spec_.klt_block, blocks = spec_.width() / block;
  for (size_t b = 0; b < blocks; b++) {
    kernels_.product(from + b * block, count, spec_.width(), panels.data() + b * (panels.size() / blocks), block, to + b * block);
  }
}

void Transform::turn(float* row, uint32_t position, bool back, Rows* rows) const {
  const size_t pairs = frequencies_.size(), heads = size_t(spec_.parts) * spec_.heads;
  float* cosines = rows->cosines.data();
  float* sines = rows->sines.data();
  kernels_.angles(frequencies_.data(), pairs, position, cosines, sines);
  kernels_.rotate(row, heads, spec_.channels, spec_.pairing, pairs, cosines, sines, back);
}

float* Transform::room(size_t count, Rows* rows) const {
  const size_t floats = count * spec_.width();
  if (rows->values.size() < floats) rows->values.resize(floats);
  if (spec_.klt_block != 0 && rows->product.size() < floats) rows->product.resize(floats);
  if (rows->cosines.size() < frequencies_.size()) rows->cosines.resize(frequencies_.size()), rows->sines.resize(frequencies_.size());
  return spec_.klt_block != 0 ? rows->product.data() : rows->values.data();
}

float* Transform::anchors(size_t count, Rows* rows) const {
  const size_t floats = count * spec_.width();
  if (rows->anchors.size() < floats) rows->anchors.resize(floats);
  return rows->anchors.data();
}

// What the rows of a delta differ from their anchors, or `back`.
void Transform::take_anchors(const RowSet& set, size_t first, size_t count, bool back, float* values, Rows* rows) const {
  const size_t width = spec_.width();
  for (size_t r = 0; r < count; r++) {
    const float* anchor = rows->anchors.data() + set.anchor_of(first + r) * width;
    if (back) {
      kernels_.uncenter(values + r * width, width, anchor, ones_.data());
    } else {
      kernels_.center(values + r * width, width, anchor, ones_.data());
    }
  }
}

float* Transform::forward(const uint8_t* const* parts, size_t skipped, const RowSet& set, size_t first, size_t count, uint32_t position,
                          Rows* rows) const {
  float* product = room(count, rows);
  const size_t width = spec_.width(), part_width = spec_.part_width(), heads = size_t(spec_.parts) * spec_.heads;
  for (size_t r = 0; r < count; r++) {
    float* row = rows->values.data() + r * width;
    const size_t token = skipped + set.row(first + r);
    for (size_t part = 0; part < spec_.parts; part++) {
      const uint8_t* from = parts[part] + token * part_width * element_bytes(spec_.element);
      ask_ahead<0>(from, part_width * element_bytes(spec_.element));
      kernels_.load(spec_.element, from, part_width, row + part * part_width);
    }
    if (!frequencies_.empty()) turn(row, uint32_t(position + token), true, rows);
    if (!mean_.empty()) kernels_.center(row, width, mean_.data(), scale_.data());
    if (!signs_.empty()) kernels_.hadamard(row, heads, spec_.channels, signs_.data(), norm_, false);
  }
  if (spec_.klt_block != 0) multiply(rows->values.data(), count, false, product);
  if (set.kind == RowSet::Kind::others) take_anchors(set, first, count, false, product, rows);
  return product;
}

void Transform::inverse(uint8_t* const* parts, size_t skipped, const RowSet& set, size_t first, size_t count, uint32_t position,
                        Rows* rows) const {
  const size_t width = spec_.width(), part_width = spec_.part_width(), heads = size_t(spec_.parts) * spec_.heads;
  float* values = room(count, rows);
  if (set.kind == RowSet::Kind::anchors) memcpy(anchors(set.count, rows) + first * width, values, count * width * sizeof(float));
  if (set.kind == RowSet::Kind::others) take_anchors(set, first, count, true, values, rows);
  if (spec_.klt_block != 0) multiply(rows->product.data(), count, true, rows->values.data());
  for (size_t r = 0; r < count; r++) {
    float* row = rows->values.data() + r * width;
    const size_t token = skipped + set.row(first + r);
    if (!signs_.empty()) kernels_.hadamard(row, heads, spec_.channels, signs_.data(), norm_, true);
    if (!mean_.empty()) kernels_.uncenter(row, width, mean_.data(), unscale_.data());
    if (!frequencies_.empty()) turn(row, uint32_t(position + token), false, rows);
    for (size_t part = 0; part < spec_.parts; part++) {
      uint8_t* to = parts[part] + token * part_width * element_bytes(spec_.element);
      ask_ahead<1>(to, part_width * element_bytes(spec_.element));
      kernels_.store_finite(spec_.element, row + part * part_width, part_width, to);
    }
  }
}

}  // namespace kvferry::codec
