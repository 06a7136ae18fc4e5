// Part of kernels_*.cpp: elements, RoPE, mean and scale, Hadamard. See kernels.h.

// KVFERRY_LANES floats, as many as a register has. What lies side by side in one is never added up, so that their number decides nothing.
constexpr size_t kLanes = KVFERRY_LANES;
typedef float Lanes __attribute__((vector_size(4 * KVFERRY_LANES)));
typedef int32_t LaneNumbers __attribute__((vector_size(4 * KVFERRY_LANES)));
typedef uint16_t AnyUint16 __attribute__((aligned(1), may_alias));
typedef float AnyFloat __attribute__((aligned(1), may_alias));

KVFERRY_INLINE void take_lanes(const float* from, Lanes* lanes) { __builtin_memcpy(lanes, from, sizeof *lanes); }
KVFERRY_INLINE void put_lanes(float* to, const Lanes& lanes) { __builtin_memcpy(to, &lanes, sizeof lanes); }

void load(Element element, const uint8_t* __restrict from, size_t count, float* __restrict to) {
  const AnyUint16* halves = reinterpret_cast<const AnyUint16*>(from);
  switch (element) {
    case Element::bf16:
      for (size_t i = 0; i < count; i++) to[i] = from_bf16(halves[i]);
      return;
    case Element::f16:
      for (size_t i = 0; i < count; i++) to[i] = from_f16(halves[i]);
      return;
    case Element::f32:
      for (size_t i = 0; i < count; i++) to[i] = reinterpret_cast<const AnyFloat*>(from)[i];
      return;
  }
}

// Rounding is all that is asked for as long as no value is NaN or nearly infinite. False: one is, and what was written means nothing.
bool store_rounded(const float* __restrict from, size_t count, AnyUint16* __restrict to) {
  uint32_t greatest = 0;
  for (size_t i = 0; i < count; i++) {
    const uint32_t bits = bits_of(from[i]), magnitude = bits & 0x7FFFFFFF;
    greatest = magnitude > greatest ? magnitude : greatest;
    to[i] = rounded_bf16(bits);
  }
  return greatest < kRoundsToInfinity;
}

template <bool kFinite>
void store_as(Element element, const float* __restrict from, size_t count, uint8_t* __restrict to) {
  AnyUint16* halves = reinterpret_cast<AnyUint16*>(to);
  switch (element) {
    case Element::bf16:
      if (store_rounded(from, count, halves)) return;
      for (size_t i = 0; i < count; i++) halves[i] = limited<kFinite, uint16_t>(to_bf16(from[i]), 0x7F80);
      return;
    case Element::f16:
      for (size_t i = 0; i < count; i++) halves[i] = limited<kFinite, uint16_t>(to_f16(from[i]), 0x7C00);
      return;
    case Element::f32:
      for (size_t i = 0; i < count; i++) {
        reinterpret_cast<AnyFloat*>(to)[i] = float_of(limited<kFinite, uint32_t>(bits_of(one_nan(from[i])), kInfinity));
      }
      return;
  }
}

void store(Element element, const float* from, size_t count, uint8_t* to) { store_as<false>(element, from, count, to); }
void store_finite(Element element, const float* from, size_t count, uint8_t* to) { store_as<true>(element, from, count, to); }

bool is_finite(const float* values, size_t count) {
  uint32_t greatest = 0;
  for (size_t i = 0; i < count; i++) {
    const uint32_t magnitude = bits_of(values[i]) & 0x7FFFFFFF;
    greatest = magnitude > greatest ? magnitude : greatest;
  }
  return greatest < kInfinity;
}

void angles(const double* __restrict frequencies, size_t count, double position, float* __restrict cosines, float* __restrict sines) {
  for (size_t i = 0; i < count; i++) cosine_and_sine(position * frequencies[i], cosines + i, sines + i);
}

template <bool kBack>
KVFERRY_INLINE void turn(float* first, float* second, float cosine, float sine) {
  turn_pair(first, second, cosine, kBack ? -sine : sine);
}

template <bool kBack>
void rotate_heads(float* row, size_t heads, size_t channels, Pairing pairing, size_t pairs, const float* __restrict cosines,
                  const float* __restrict sines) {
  for (size_t h = 0; h < heads; h++) {
    float* head = row + h * channels;
    if (pairing == Pairing::half) {
      float* __restrict first = head;
      float* __restrict second = head + pairs;
      for (size_t i = 0; i < pairs; i++) turn<kBack>(first + i, second + i, cosines[i], sines[i]);
    } else {
      for (size_t i = 0; i < pairs; i++) turn<kBack>(head + 2 * i, head + 2 * i + 1, cosines[i], sines[i]);
    }
  }
}

void rotate(float* row, size_t heads, size_t channels, Pairing pairing, size_t pairs, const float* cosines, const float* sines, bool back) {
  if (back) return rotate_heads<true>(row, heads, channels, pairing, pairs, cosines, sines);
  rotate_heads<false>(row, heads, channels, pairing, pairs, cosines, sines);
}

void center(float* __restrict row, size_t count, const float* __restrict mean, const float* __restrict scale) {
  for (size_t i = 0; i < count; i++) row[i] = (row[i] - mean[i]) * scale[i];
}

void uncenter(float* __restrict row, size_t count, const float* __restrict mean, const float* __restrict unscale) {
  for (size_t i = 0; i < count; i++) row[i] = __builtin_fmaf(row[i], unscale[i], mean[i]);
}

// Each lane has that of the lane whose number differs in one bit.
template <size_t kBit>
KVFERRY_INLINE void swap_lanes(const Lanes& lanes, Lanes* swapped) {
#if defined(__clang__)
  for (int lane = 0; lane < int(kLanes); lane++) (*swapped)[lane] = lanes[lane ^ int(kBit)];
#else
  LaneNumbers other;
  for (int lane = 0; lane < int(kLanes); lane++) other[lane] = lane ^ int(kBit);
  *swapped = __builtin_shuffle(lanes, other);
#endif
}

// Butterflies between lanes whose numbers differ in one bit: the one below has the sum, the one above the difference.
template <size_t kBit>
KVFERRY_INLINE void within_lanes(Lanes* lanes) {
  Lanes sign{}, swapped;
  for (int lane = 0; lane < int(kLanes); lane++) sign[lane] = (lane & int(kBit)) != 0 ? -1.0f : 1.0f;
  swap_lanes<kBit>(*lanes, &swapped);
  *lanes = swapped + *lanes * sign;
}

void butterflies(float* head, size_t channels) {
  for (size_t half = 1; half < channels; half *= 2) {
    for (size_t base = 0; base < channels; base += 2 * half) {
      for (size_t i = base; i < base + half; i++) {
        const float a = head[i], b = head[i + half];
        head[i] = a + b;
        head[i + half] = a - b;
      }
    }
  }
}

// As far apart as a vector is long, and further.
void wide_butterflies(float* head, size_t channels) {
  for (size_t half = kLanes; half < channels; half *= 2) {
    for (size_t base = 0; base < channels; base += 2 * half) {
      for (size_t i = base; i < base + half; i += kLanes) {
        Lanes a, b;
        take_lanes(head + i, &a);
        take_lanes(head + i + half, &b);
        put_lanes(head + i, a + b);
        put_lanes(head + i + half, a - b);
      }
    }
  }
}

void hadamard(float* row, size_t heads, size_t channels, const float* signs, float norm, bool back) {
  for (size_t h = 0; h < heads; h++) {
    float* head = row + h * channels;
    const float* sign = signs + h * channels;
    if (!back) {
      for (size_t i = 0; i < channels; i++) head[i] *= sign[i];
    }
    if (channels < kLanes) butterflies(head, channels);
    for (size_t i = 0; i + kLanes <= channels; i += kLanes) {
      Lanes lanes;
      take_lanes(head + i, &lanes);
      within_lanes<1>(&lanes);
      within_lanes<2>(&lanes);
      if (kLanes > 4) within_lanes<4>(&lanes);
      if (kLanes > 8) within_lanes<8>(&lanes);
      put_lanes(head + i, lanes);
    }
    wide_butterflies(head, channels);
    for (size_t i = 0; i < channels; i++) head[i] = back ? head[i] * norm * sign[i] : head[i] * norm;
  }
}
