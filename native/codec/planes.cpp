#include "planes.h"

#include <cstring>

namespace kvferry::codec {
namespace {

// Plain loops that compilers make vectors of, once for each instruction set.
inline __attribute__((always_inline)) void split_values(const uint8_t* values, size_t count, uint8_t* __restrict middle,
                                                        uint8_t* __restrict rest) {
  for (size_t at = 0; at < count; at++) {
    uint16_t value;
    memcpy(&value, values + 2 * at, 2);
    middle[at] = uint8_t(value >> 7);
    rest[at] = uint8_t((value & 0x7f) | (value >> 8 & 0x80));
  }
}

inline __attribute__((always_inline)) void join_values(const uint8_t* __restrict middle, const uint8_t* __restrict rest, size_t count,
                                                       uint8_t* __restrict values) {
  for (size_t at = 0; at < count; at++) {
    const uint16_t value = uint16_t((rest[at] & 0x7f) | middle[at] << 7 | (rest[at] & 0x80) << 8);
    memcpy(values + 2 * at, &value, 2);
  }
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) void split_avx2(const uint8_t* values, size_t count, uint8_t* middle, uint8_t* rest) {
  split_values(values, count, middle, rest);
}
__attribute__((target("avx2"))) void join_avx2(const uint8_t* middle, const uint8_t* rest, size_t count, uint8_t* values) {
  join_values(middle, rest, count, values);
}
#define KVFERRY_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl")))
KVFERRY_AVX512 void split_avx512(const uint8_t* values, size_t count, uint8_t* middle, uint8_t* rest) {
  split_values(values, count, middle, rest);
}
KVFERRY_AVX512 void join_avx512(const uint8_t* middle, const uint8_t* rest, size_t count, uint8_t* values) {
  join_values(middle, rest, count, values);
}
#endif

}  // namespace

void split_middle(const uint8_t* values, size_t count, uint8_t* middle, uint8_t* rest, [[maybe_unused]] Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::avx512) return split_avx512(values, count, middle, rest);
  if (isa == Isa::avx2) return split_avx2(values, count, middle, rest);
#endif
  split_values(values, count, middle, rest);
}

void join_middle(const uint8_t* middle, const uint8_t* rest, size_t count, uint8_t* values, [[maybe_unused]] Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::avx512) return join_avx512(middle, rest, count, values);
  if (isa == Isa::avx2) return join_avx2(middle, rest, count, values);
#endif
  join_values(middle, rest, count, values);
}

void split_planes(const uint8_t* from, size_t count, size_t element_bytes, uint8_t* to) {
  for (size_t plane = 0; plane < element_bytes; plane++, to += count) {
    for (size_t at = 0; at < count; at++) to[at] = from[at * element_bytes + plane];
  }
}

void join_planes(const uint8_t* from, size_t count, size_t element_bytes, uint8_t* to) {
  for (size_t plane = 0; plane < element_bytes; plane++, from += count) {
    for (size_t at = 0; at < count; at++) to[at * element_bytes + plane] = from[at];
  }
}

// Eight tables, because equal neighbours would wait for each other.
void count_bytes(const uint8_t* bytes, size_t count, uint32_t* counts) {
  uint32_t tables[8][256] = {};
  size_t at = 0;
  for (; count - at >= 8; at += 8) {
    uint64_t word;
    memcpy(&word, bytes + at, 8);
    for (int byte = 0; byte < 8; byte++) tables[byte][word >> (8 * byte) & 255]++;
  }
  for (; at < count; at++) tables[0][bytes[at]]++;
  for (size_t value = 0; value < 256; value++) {
    for (const auto& table : tables) counts[value] += table[value];
  }
}

}  // namespace kvferry::codec
