// Rows of a tile into the domain where they are quantized, and back: un-rotation of RoPE keys, mean, scale, signed Hadamard, KLT, delta.
#pragma once
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "kernels.h"
#include "row_set.h"
#include "spec.h"

namespace kvferry::codec {

// What one call works with. Grows to what its tiles need, and is used again.
struct Rows {
  std::vector<float> values;   // the rows in hand
  std::vector<float> product;  // the same before or behind a KLT
  std::vector<float> cosines, sines;
  std::vector<float> anchors;  // of a delta, as a decoder has them
};

// What a product reads of the matrices. The first who multiplies makes them: of most codecs one end uses one of both, and to make a codec takes no longer than to
// read its spec.
struct Panels {
  std::once_flag once;
  std::vector<float> floats;
};

class Transform {
 public:
  // `spec` has no problem, and outlives this.
  Transform(const Spec& spec, const Kernels& kernels);
  // `count` rows of a set from its `first` on. The coded rows begin at row `skipped` of the parts' planes, whose tokens begin at `position`.
  // Gives count x width floats, in `rows` until the next call. Where a delta takes anchors away, `rows` has them.
  float* forward(const uint8_t* const* parts, size_t skipped, const RowSet& set, size_t first, size_t count, uint32_t position,
                 Rows* rows) const;
  // Where `inverse` wants the floats.
  float* room(size_t count, Rows* rows) const;
  // Of what lies in `room`; anchors come before the others, and stay in `rows`. Writes elements of these rows.
  void inverse(uint8_t* const* parts, size_t skipped, const RowSet& set, size_t first, size_t count, uint32_t position, Rows* rows) const;
  // For so many anchors.
  float* anchors(size_t count, Rows* rows) const;

 private:
  void turn(float* row, uint32_t position, bool back, Rows* rows) const;
  void multiply(const float* from, size_t count, bool is_inverse, float* to) const;
  std::vector<float> panels_of(bool is_inverse) const;
  void take_anchors(const RowSet& set, size_t first, size_t count, bool back, float* values, Rows* rows) const;

  const Spec& spec_;
  const Kernels& kernels_;
  std::vector<double> frequencies_;
  std::vector<float> mean_, scale_, unscale_, signs_, ones_;
  float norm_ = 1;
  mutable Panels forward_, inverse_;
};

}  // namespace kvferry::codec
