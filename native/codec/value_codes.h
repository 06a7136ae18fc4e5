// One value to its code and back, the same for every loop, on CPUs and on GPUs: what is rounded once and what twice stands here. See kernels.h.
#pragma once
#include <cstddef>
#include <cstdint>

#include "values.h"

namespace kvferry::codec {

KVFERRY_INLINE uint32_t zigzag_of(int32_t q) { return (uint32_t(q) << 1) ^ uint32_t(q >> 31); }
KVFERRY_INLINE int32_t from_zigzag(uint32_t zigzag) { return int32_t((zigzag >> 1) ^ (0 - (zigzag & 1))); }

// The code of a uniform step, or 255: it is not below `symbols`, or the value is no number.
KVFERRY_INLINE uint32_t step_code(float value, float inverse_step, uint32_t symbols) {
  const float t = value * inverse_step;
  const uint32_t zigzag = zigzag_of(nearest(t));
  // Beyond that `nearest` may be anything.
  const uint32_t below = __builtin_fabsf(t) < 127.5f ? symbols : 0;
  return zigzag < below ? zigzag : 255;
}

KVFERRY_INLINE float step_value(uint32_t code, float step) { return float(int32_t(code >> 1) ^ -int32_t(code & 1)) * step; }

// A range to its parameters: f16 not above the low, bf16 step that reaches the high. Makes the low what a decoder sees, and the high 1 / step. Not 0: out of
// f16's range.
KVFERRY_INLINE uint32_t seal_range(float* low, float* high, float top, uint16_t* low_parameter, uint16_t* step_parameter) {
  const uint32_t outside = __builtin_fabsf(*low) <= 65504.0f && __builtin_fabsf(*high) <= 0x1p100f ? 0u : 1u;
  *low_parameter = f16_below(*low + 0.0f);
  *low = from_f16(*low_parameter);
  *step_parameter = bf16_above((*high - *low) / top);
  const float step = from_bf16(*step_parameter);
  // Below that the reciprocal is no number; then all codes are 0, and the low is right to 2^-125.
  *high = step < 0x1p-125f ? 0.0f : 1.0f / step;
  return outside;
}

KVFERRY_INLINE uint8_t group_code(float value, float low, float inverse, float top) {
  float t = (value - low) * inverse;
  t = t > 0.0f ? t : 0.0f;
  t = t < top ? t : top;
  return uint8_t(nearest(t));
}

KVFERRY_INLINE float group_value(uint32_t code, float step, float low) { return __builtin_fmaf(float(int32_t(code)), step, low); }

// Sine and cosine by the polynomials of fdlibm (Sun, 1993) about the nearest quarter turn: libm's own differ in their last bit from one machine to
// another.
KVFERRY_INLINE void cosine_and_sine(double angle, float* cosine_of, float* sine_of) {
  constexpr double kRound = 6755399441055744.0;  // 1.5 x 2^52
  const double shifted = __builtin_fma(angle, 0x1.45F306DC9C883p-1, kRound);
  const double turns = shifted - kRound;
  const uint64_t quarter = __builtin_bit_cast(uint64_t, shifted) & 3;
  const double r = __builtin_fma(turns, -0x1.1A62633145C07p-54, __builtin_fma(turns, -0x1.921FB54442D18p+0, angle));
  const double z = r * r;
  double s = __builtin_fma(z, 1.58969099521155010221e-10, -2.50507602534068634195e-08);
  s = __builtin_fma(z, s, 2.75573137070700676789e-06);
  s = __builtin_fma(z, s, -1.98412698298579493134e-04);
  s = __builtin_fma(z, s, 8.33333333332248946124e-03);
  s = __builtin_fma(z, s, -1.66666666666666324348e-01);
  const double sine = __builtin_fma(z * r, s, r);
  double c = __builtin_fma(z, -1.13596475577881948265e-11, 2.08757232129817482790e-09);
  c = __builtin_fma(z, c, -2.75573143513906633035e-07);
  c = __builtin_fma(z, c, 2.48015872894767294178e-05);
  c = __builtin_fma(z, c, -1.38888888888741095749e-03);
  c = __builtin_fma(z, c, 4.16666666666666019037e-02);
  const double cosine = __builtin_fma(z * z, c, __builtin_fma(z, -0.5, 1.0));
  const double x = (quarter & 1) != 0 ? sine : cosine, y = (quarter & 1) != 0 ? cosine : sine;
  *cosine_of = float(quarter == 1 || quarter == 2 ? -x : x);
  *sine_of = float(quarter >= 2 ? -y : y);
}

// `sine` of the opposite angle turns back.
KVFERRY_INLINE void turn_pair(float* first, float* second, float cosine, float sine) {
  const float a = *first, b = *second;
  *first = __builtin_fmaf(a, cosine, -(b * sine));
  *second = __builtin_fmaf(b, cosine, a * sine);
}

}  // namespace kvferry::codec
