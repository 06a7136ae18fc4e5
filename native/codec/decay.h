// exp(-x), the same on every machine: a library's may differ in its last bit.
#pragma once
#include "values.h"

namespace kvferry::codec {

// Of x >= 0; within 1e-15 of the true value, relatively, where that is not denormal. NaN for NaN.
KVFERRY_INLINE double decay_of(double x) {
  constexpr double kHigh = 0.6931471803691238, kLow = 1.9082149292705877e-10;
  // Below half of the smallest double.
  if (x > 746) return 0;
  const double halvings = __builtin_floor(x / (kHigh + kLow) + 0.5);
  // In two steps, so that the first is exact.
  const double rest = x - halvings * kHigh - halvings * kLow;
  double sum = 1;
  for (int power = 17; power > 0; power--) sum = 1 - (rest / power) * sum;
  // Exact down to the smallest normal number.
  double left = halvings;
  for (; left >= 30; left -= 30) sum /= 1073741824.0;
  for (; left >= 1; left -= 1) sum /= 2;
  return sum;
}

}  // namespace kvferry::codec
