// Planes as they cross the boundary: a Float64Array of 11 integers each, in the order of transport/native.ts.
#pragma once
#include <napi.h>

#include <cmath>
#include <limits>
#include <vector>

#include "../core/runs.h"

namespace kvferry {

// False: not an integer that `Number` holds.
template <typename Number>
bool take_integer(double number, Number* to) {
  constexpr double most = sizeof(Number) > 4 ? 9007199254740991.0 : double(std::numeric_limits<Number>::max());
  if (!(number >= 0 && number <= most && number == std::floor(number))) return false;
  *to = Number(number);
  return true;
}

inline bool planes_of(Napi::Value value, std::vector<Plane>* planes) {
  constexpr size_t kNumbers = 11;
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_float64_array) return false;
  const auto numbers = value.As<Napi::Float64Array>();
  if (numbers.ElementLength() % kNumbers != 0) return false;
  planes->resize(numbers.ElementLength() / kNumbers);
  const double* at = numbers.Data();
  for (Plane& plane : *planes) {
    const bool where = take_integer(at[0], &plane.block_list) && take_integer(at[1], &plane.offset) &&
                       take_integer(at[2], &plane.block_stride) && take_integer(at[10], &plane.first_token);
    const bool counts = take_integer(at[3], &plane.tokens) && take_integer(at[5], &plane.heads) &&
                        take_integer(at[7], &plane.channels) && take_integer(at[9], &plane.element_bytes);
    const bool strides = take_integer(at[4], &plane.token_stride) && take_integer(at[6], &plane.head_stride) &&
                         take_integer(at[8], &plane.channel_stride);
    if (!where || !counts || !strides) return false;
    at += kNumbers;
  }
  return true;
}

}  // namespace kvferry
