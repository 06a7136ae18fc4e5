// Part of kernels_*.cpp: floats to codes and back. See kernels.h.

bool step(const float* __restrict row, size_t count, const float* __restrict inverse_steps, const uint32_t* __restrict symbols,
          uint8_t* __restrict codes) {
  uint32_t escapes = 0;
  for (size_t i = 0; i < count; i++) {
    const uint32_t code = step_code(row[i], inverse_steps[i], symbols[i]);
    codes[i] = uint8_t(code);
    escapes |= code == 255 ? 1u : 0u;
  }
  return escapes != 0;
}

void unstep(const uint8_t* __restrict codes, size_t count, const float* __restrict steps, float* __restrict row) {
  for (size_t i = 0; i < count; i++) row[i] = step_value(codes[i], steps[i]);
}

template <size_t kBit>
KVFERRY_INLINE void fold_range(Lanes* least, Lanes* greatest) {
  Lanes low, high;
  swap_lanes<kBit>(*least, &low);
  swap_lanes<kBit>(*greatest, &high);
  *least = low < *least ? low : *least;
  *greatest = high > *greatest ? high : *greatest;
}

// Of zeros of either sign the positive one: then nothing depends on the order of comparisons.
void range_of_run(const float* values, size_t count, float* low, float* high) {
  float least = values[0], greatest = values[0];
  size_t i = 0;
  if (count >= kLanes) {
    Lanes least_lanes, greatest_lanes;
    take_lanes(values, &least_lanes);
    greatest_lanes = least_lanes;
    for (i = kLanes; i + kLanes <= count; i += kLanes) {
      Lanes lanes;
      take_lanes(values + i, &lanes);
      least_lanes = lanes < least_lanes ? lanes : least_lanes;
      greatest_lanes = lanes > greatest_lanes ? lanes : greatest_lanes;
    }
    if (kLanes > 8) fold_range<8>(&least_lanes, &greatest_lanes);
    if (kLanes > 4) fold_range<4>(&least_lanes, &greatest_lanes);
    fold_range<2>(&least_lanes, &greatest_lanes);
    fold_range<1>(&least_lanes, &greatest_lanes);
    least = least_lanes[0];
    greatest = greatest_lanes[0];
  }
  for (; i < count; i++) {
    least = values[i] < least ? values[i] : least;
    greatest = values[i] > greatest ? values[i] : greatest;
  }
  *low = least + 0.0f;
  *high = greatest + 0.0f;
}

void range_of_runs(const float* values, size_t count, size_t group, float* lows, float* highs) {
  for (size_t run = 0, at = 0; at < count; run++, at += group) {
    range_of_run(values + at, count - at < group ? count - at : group, lows + run, highs + run);
  }
}

void range_of_columns(const float* __restrict row, size_t count, float* __restrict lows, float* __restrict highs) {
  for (size_t i = 0; i < count; i++) {
    lows[i] = row[i] < lows[i] ? row[i] : lows[i];
    highs[i] = row[i] > highs[i] ? row[i] : highs[i];
  }
}

bool seal(float* __restrict lows, float* __restrict highs, size_t count, const float* __restrict tops, uint16_t* __restrict low_parameters,
          uint16_t* __restrict step_parameters) {
  uint32_t outside = 0;
  for (size_t i = 0; i < count; i++) {
    outside |= seal_range(lows + i, highs + i, tops[i], low_parameters + i, step_parameters + i);
  }
  return outside == 0;
}

void unseal(const uint16_t* __restrict low_parameters, const uint16_t* __restrict step_parameters, size_t count, float* __restrict lows,
            float* __restrict steps) {
  for (size_t i = 0; i < count; i++) {
    lows[i] = from_f16(low_parameters[i]);
    steps[i] = from_bf16(step_parameters[i]);
  }
}

void group_run(const float* __restrict values, size_t count, float low, float inverse, float top, uint8_t* __restrict codes) {
  for (size_t i = 0; i < count; i++) codes[i] = group_code(values[i], low, inverse, top);
}

void group_runs(const float* values, size_t rows, size_t stride, size_t count, size_t group, const float* lows, const float* inverses, size_t ranges,
                float top, uint8_t* codes) {
  for (size_t row = 0; row < rows; row++, values += stride, lows += ranges, inverses += ranges, codes += count) {
    for (size_t run = 0, at = 0; at < count; run++, at += group) {
      group_run(values + at, count - at < group ? count - at : group, lows[run], inverses[run], top, codes + at);
    }
  }
}

void group_columns(const float* __restrict row, size_t count, const float* __restrict lows, const float* __restrict inverses, float top,
                   uint8_t* __restrict codes) {
  for (size_t i = 0; i < count; i++) codes[i] = group_code(row[i], lows[i], inverses[i], top);
}

void ungroup_run(const uint8_t* __restrict codes, size_t count, float low, float step, float* __restrict values) {
  for (size_t i = 0; i < count; i++) values[i] = group_value(codes[i], step, low);
}

void ungroup_runs(const uint8_t* codes, size_t rows, size_t count, size_t group, const float* lows, const float* steps, size_t ranges, float* values,
                  size_t stride) {
  for (size_t row = 0; row < rows; row++, codes += count, lows += ranges, steps += ranges, values += stride) {
    for (size_t run = 0, at = 0; at < count; run++, at += group) {
      ungroup_run(codes + at, count - at < group ? count - at : group, lows[run], steps[run], values + at);
    }
  }
}

void ungroup_columns(const uint8_t* __restrict codes, size_t count, const float* __restrict lows, const float* __restrict steps,
                     float* __restrict row) {
  for (size_t i = 0; i < count; i++) row[i] = group_value(codes[i], steps[i], lows[i]);
}

void fp8(Fp8 format, const float* __restrict values, size_t count, uint8_t* __restrict codes) {
  if (format == Fp8::e4m3) {
    for (size_t i = 0; i < count; i++) codes[i] = to_e4m3(values[i]);
  } else {
    for (size_t i = 0; i < count; i++) codes[i] = to_e5m2(values[i]);
  }
}

void unfp8(Fp8 format, const uint8_t* __restrict codes, size_t count, float* __restrict values) {
  if (format == Fp8::e4m3) {
    for (size_t i = 0; i < count; i++) values[i] = from_e4m3(codes[i]);
  } else {
    for (size_t i = 0; i < count; i++) values[i] = from_e5m2(codes[i]);
  }
}
