// One value between its types: to the nearest, ties to even; Inf stays Inf, and there is one NaN, because which of several an addition gives differs between
// instruction sets. Written without branches, so that loops over them become vectors.
#pragma once
#include <cstddef>
#include <cstdint>

namespace kvferry::codec {

enum class Element : uint32_t { bf16, f16, f32 };
enum class Fp8 : uint32_t { e4m3, e5m2 };

// Internal linkage and always in line: what is compiled for one instruction set is never called from another.
#if defined(__CUDACC__)
#define KVFERRY_INLINE static __host__ __device__ __forceinline__
#else
#define KVFERRY_INLINE static inline __attribute__((always_inline))
#endif

constexpr size_t element_bytes(Element element) { return element == Element::f32 ? 4 : 2; }

KVFERRY_INLINE uint32_t bits_of(float value) { return __builtin_bit_cast(uint32_t, value); }
KVFERRY_INLINE float float_of(uint32_t bits) { return __builtin_bit_cast(float, bits); }

constexpr uint32_t kInfinity = 0x7F800000;

// Adding this to |value| < 2^22 leaves the nearest integer (ties to even) in the low bits.
constexpr float kRounder = 12582912.0f;
KVFERRY_INLINE int32_t nearest(float value) { return int32_t(bits_of(value + kRounder) - bits_of(kRounder)); }

KVFERRY_INLINE float from_bf16(uint16_t value) { return float_of(uint32_t(value) << 16); }

// Of anything but NaN. From kRoundsToInfinity on the nearest is infinite.
constexpr uint32_t kRoundsToInfinity = 0x7F7F8000;
KVFERRY_INLINE uint16_t rounded_bf16(uint32_t bits) { return uint16_t((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16); }

KVFERRY_INLINE uint16_t to_bf16(float value) {
  const uint32_t bits = bits_of(value);
  return (bits & 0x7FFFFFFF) > kInfinity ? uint16_t(0x7FC0) : rounded_bf16(bits);
}

KVFERRY_INLINE float from_f16(uint16_t value) {
  const uint32_t magnitude = value & 0x7FFF;
  const uint32_t normal = (magnitude << 13) + (112u << 23);
  const uint32_t small = bits_of(float(int32_t(magnitude)) * 0x1p-24f);
  const uint32_t special = (magnitude << 13) | kInfinity;
  const uint32_t bits = magnitude < 0x400 ? small : magnitude >= 0x7C00 ? special : normal;
  return float_of(bits | uint32_t(value & 0x8000) << 16);
}

KVFERRY_INLINE uint16_t to_f16(float value) {
  const uint32_t bits = bits_of(value), magnitude = bits & 0x7FFFFFFF;
  const uint32_t normal = (magnitude - (112u << 23) + 0xFFF + ((magnitude >> 13) & 1)) >> 13;
  // 0.5 has the smallest f16 as its last place.
  const uint32_t small = bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f);
  const uint32_t half = (magnitude < 0x38800000 ? small : magnitude >= 0x47800000 ? 0x7C00 : normal) | ((bits >> 16) & 0x8000);
  return uint16_t(magnitude > kInfinity ? 0x7E00 : half);
}

// Of `bits` that may be infinite, the finite ones next to them.
template <bool kFinite, typename Bits>
KVFERRY_INLINE Bits limited(Bits bits, Bits infinity) {
  return kFinite && Bits(bits << 1) == Bits(infinity << 1) ? Bits(bits - 1) : bits;
}

// fp8 as engines keep it: beyond the largest value is the largest value. e4m3 has no Inf.
KVFERRY_INLINE uint8_t to_e4m3(float value) {
  const uint32_t bits = bits_of(value), any = bits & 0x7FFFFFFF;
  const uint32_t magnitude = any > 0x43E00000 ? 0x43E00000 : any;  // 448
  const uint32_t normal = (magnitude - (120u << 23) + 0x7FFFF + ((magnitude >> 20) & 1)) >> 20;
  const uint32_t small = bits_of(float_of(magnitude) + 16384.0f) - bits_of(16384.0f);
  return uint8_t((magnitude < 0x3C800000 ? small : normal) | ((bits >> 24) & 0x80));
}

KVFERRY_INLINE float from_e4m3(uint8_t value) {
  const uint32_t magnitude = value & 0x7F;
  const uint32_t normal = (magnitude << 20) + (120u << 23);
  const uint32_t small = bits_of(float(int32_t(magnitude)) * 0x1p-9f);
  return float_of((magnitude < 8 ? small : normal) | uint32_t(value & 0x80) << 24);
}

KVFERRY_INLINE uint8_t to_e5m2(float value) {
  const uint32_t bits = bits_of(value), any = bits & 0x7FFFFFFF;
  const uint32_t magnitude = any > 0x47600000 ? 0x47600000 : any;  // 57344
  const uint32_t normal = (magnitude - (112u << 23) + 0xFFFFF + ((magnitude >> 21) & 1)) >> 21;
  const uint32_t small = bits_of(float_of(magnitude) + 128.0f) - bits_of(128.0f);
  return uint8_t((magnitude < 0x38800000 ? small : normal) | ((bits >> 24) & 0x80));
}

KVFERRY_INLINE float from_e5m2(uint8_t value) {
  const uint32_t magnitude = value & 0x7F;
  const uint32_t normal = (magnitude << 21) + (112u << 23);
  const uint32_t small = bits_of(float(int32_t(magnitude)) * 0x1p-16f);
  return float_of((magnitude < 4 ? small : normal) | uint32_t(value & 0x80) << 24);
}

KVFERRY_INLINE float one_nan(float value) { return value != value ? float_of(0x7FC00000) : value; }

// The least bf16 that is not below a value >= 0.
KVFERRY_INLINE uint16_t bf16_above(float value) { return uint16_t((bits_of(value) + 0xFFFF) >> 16); }

// The greatest f16 that is not above a value of at most 65,504 either way.
KVFERRY_INLINE uint16_t f16_below(float value) {
  const uint16_t near = to_f16(value);
  const bool above = from_f16(near) > value;
  // One down: towards zero for a positive one, away from it for others; below zero comes the smallest negative one.
  const uint16_t lower = near == 0 ? 0x8001 : uint16_t((near & 0x8000) != 0 ? near + 1 : near - 1);
  return above ? lower : near;
}

}  // namespace kvferry::codec
