// 32 states in four vectors. See rans.cpp for what is computed; here only how.
#if defined(__x86_64__)
#include <immintrin.h>

#include <array>

#include "rans_kernels.h"

#define KVFERRY_AVX2 __attribute__((target("avx2,bmi,bmi2,popcnt")))

namespace kvferry::codec {
namespace {

constexpr size_t kVectors = 4, kStates = 8;

// For each set of states: the shuffle that moves the words of those to the end, in order.
constexpr auto make_to_end() {
  std::array<std::array<uint8_t, 16>, 256> shuffles{};
  for (size_t set = 0; set < 256; set++) {
    size_t to = 16;
    for (size_t state = kStates; state-- > 0;) {
      if ((set >> state & 1) == 0) continue;
      shuffles[set][--to] = uint8_t(2 * state + 1);
      shuffles[set][--to] = uint8_t(2 * state);
    }
  }
  return shuffles;
}
alignas(64) constexpr auto kToEnd = make_to_end();

// And the shuffle that brings the first words to those states, and zeros to the others.
constexpr auto make_spread() {
  std::array<std::array<uint8_t, 16>, 256> shuffles{};
  for (size_t set = 0; set < 256; set++) {
    uint8_t from = 0;
    for (size_t state = 0; state < kStates; state++) {
      const bool takes = (set >> state & 1) != 0;
      shuffles[set][2 * state] = takes ? from++ : 0x80;
      shuffles[set][2 * state + 1] = takes ? from++ : 0x80;
    }
  }
  return shuffles;
}
alignas(64) constexpr auto kSpread = make_spread();

KVFERRY_AVX2 inline __m128i load128(const void* at) { return _mm_loadu_si128(static_cast<const __m128i*>(at)); }
KVFERRY_AVX2 inline __m256i load256(const void* at) { return _mm256_loadu_si256(static_cast<const __m256i*>(at)); }
KVFERRY_AVX2 inline uint32_t set_of(__m256i mask) { return uint32_t(_mm256_movemask_ps(_mm256_castsi256_ps(mask))); }

KVFERRY_AVX2 inline __m256i entries(const uint32_t* base, const uint32_t* offsets, __m256i index) {
  return _mm256_i32gather_epi32(reinterpret_cast<const int*>(base), _mm256_add_epi32(load256(offsets), index), 4);
}

KVFERRY_AVX2 inline __m256i shift_where(__m256i mask, __m256i state) {
  return _mm256_srlv_epi32(state, _mm256_and_si256(mask, _mm256_set1_epi32(16)));
}

KVFERRY_AVX2 inline uint8_t* push(__m256i* states, __m256i entry, uint8_t* to) {
  const __m256i low_ones = _mm256_set1_epi32(0x7ffff), high = _mm256_set1_epi32(0x7ff80000);
  const __m256i most = _mm256_or_si256(_mm256_and_si256(_mm256_slli_epi32(entry, 19), high), low_ones);
  const __m256i full = _mm256_cmpgt_epi32(*states, most);
  const __m256i low_words = _mm256_and_si256(*states, _mm256_set1_epi32(0xffff));
  const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(low_words), _mm256_extracti128_si256(low_words, 1));
  const uint32_t set = set_of(full);
  // What lies below the words is overwritten by the next ones, or by the caller.
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to - 16), _mm_shuffle_epi8(words, load128(kToEnd[set].data())));
  *states = shift_where(full, *states);
  return to - 2 * _mm_popcnt_u32(set);
}

// The quotient by floats, made smaller by 2^-21 of it, is right or one too small: it is below 2^19, and rounding is wrong by less than
// 2^-22 of it.
KVFERRY_AVX2 inline __m256i step(__m256i state, __m256i entry) {
  const __m256i twelve = _mm256_set1_epi32(0xfff);
  const __m256i below = _mm256_and_si256(entry, twelve);  // frequency - 1
  const __m256i frequency = _mm256_add_epi32(below, _mm256_set1_epi32(1));
  const __m256i start = _mm256_and_si256(_mm256_srli_epi32(entry, 12), twelve);
  const __m256 ratio = _mm256_div_ps(_mm256_cvtepi32_ps(state), _mm256_cvtepi32_ps(frequency));
  const __m256i quotient = _mm256_cvttps_epi32(_mm256_mul_ps(ratio, _mm256_set1_ps(1 - 0x1p-21f)));
  const __m256i rest = _mm256_sub_epi32(state, _mm256_mullo_epi32(quotient, frequency));
  const __m256i more = _mm256_and_si256(_mm256_cmpgt_epi32(rest, below), _mm256_xor_si256(below, twelve));
  const __m256i next = _mm256_add_epi32(_mm256_add_epi32(_mm256_slli_epi32(quotient, 12), rest), start);
  return _mm256_add_epi32(next, more);
}

KVFERRY_AVX2 inline __m256i advance(__m256i state, __m256i entry) {
  const __m256i count = _mm256_srli_epi32(state, 12);
  const __m256i below = _mm256_and_si256(_mm256_srli_epi32(entry, 8), _mm256_set1_epi32(0xfff));
  return _mm256_add_epi32(_mm256_mullo_epi32(count, below), _mm256_add_epi32(_mm256_srli_epi32(entry, 20), count));
}

KVFERRY_AVX2 inline __m256i pull(__m256i state, const uint8_t** from) {
  const __m256i empty = _mm256_cmpgt_epi32(_mm256_set1_epi32(kRansLow), state);
  const uint32_t set = set_of(empty);
  const __m128i words = _mm_shuffle_epi8(load128(*from), load128(kSpread[set].data()));
  *from += 2 * _mm_popcnt_u32(set);
  const __m256i shifted = _mm256_sllv_epi32(state, _mm256_and_si256(empty, _mm256_set1_epi32(16)));
  return _mm256_or_si256(shifted, _mm256_cvtepu16_epi32(words));
}

// Bytes 0 of 32 words.
KVFERRY_AVX2 inline __m256i low_bytes(const __m256i* words) {
  const __m256i byte = _mm256_set1_epi32(0xff);
  const __m256i first = _mm256_packus_epi32(_mm256_and_si256(words[0], byte), _mm256_and_si256(words[1], byte));
  const __m256i second = _mm256_packus_epi32(_mm256_and_si256(words[2], byte), _mm256_and_si256(words[3], byte));
  return _mm256_permutevar8x32_epi32(_mm256_packus_epi16(first, second), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

}  // namespace

KVFERRY_AVX2 uint8_t* rans_encode_avx2(const uint8_t* symbols, size_t groups, size_t column, const RansColumns& columns, uint32_t* states,
                                       uint8_t* to, uint32_t* absent) {
  const size_t width = columns.width(), back = kRansLanes % width;
  const uint32_t* base = columns.encode_base();
  column = (column + back * (groups % width)) % width;
  __m256i state[kVectors], entry[kVectors], seen = _mm256_setzero_si256();
  for (size_t vector = 0; vector < kVectors; vector++) state[vector] = load256(states + vector * kStates);
  for (size_t group = groups; group-- > 0;) {
    column = column >= back ? column - back : column + width - back;
    const uint8_t* from = symbols + group * kRansLanes;
    const uint32_t* offsets = columns.offsets(column);
    for (size_t vector = 0; vector < kVectors; vector++) {
      const __m256i index = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from + vector * kStates)));
      entry[vector] = entries(base, offsets + vector * kStates, index);
      seen = _mm256_or_si256(seen, entry[vector]);
    }
    for (size_t vector = kVectors; vector-- > 0;) to = push(&state[vector], entry[vector], to);
    for (size_t vector = 0; vector < kVectors; vector++) state[vector] = step(state[vector], entry[vector]);
  }
  for (size_t vector = 0; vector < kVectors; vector++) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(states + vector * kStates), state[vector]);
  }
  *absent |= set_of(seen) != 0 ? RansTable::kAbsent : 0;
  return to;
}

KVFERRY_AVX2 size_t rans_decode_avx2(const uint8_t** at, const uint8_t* last, uint8_t* symbols, size_t groups, size_t column,
                                     const RansColumns& columns, uint32_t* states) {
  const size_t width = columns.width(), forth = kRansLanes % width;
  const uint32_t* base = columns.decode_base();
  __m256i state[kVectors], entry[kVectors];
  for (size_t vector = 0; vector < kVectors; vector++) state[vector] = load256(states + vector * kStates);
  const uint8_t* from = *at;
  size_t group = 0;
  for (; group < groups && from <= last; group++) {
    const uint32_t* offsets = columns.offsets(column);
    for (size_t vector = 0; vector < kVectors; vector++) {
      entry[vector] = entries(base, offsets + vector * kStates, _mm256_and_si256(state[vector], _mm256_set1_epi32(0xfff)));
    }
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(symbols + group * kRansLanes), low_bytes(entry));
    for (size_t vector = 0; vector < kVectors; vector++) state[vector] = advance(state[vector], entry[vector]);
    for (size_t vector = 0; vector < kVectors; vector++) state[vector] = pull(state[vector], &from);
    column = column + forth >= width ? column + forth - width : column + forth;
  }
  for (size_t vector = 0; vector < kVectors; vector++) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(states + vector * kStates), state[vector]);
  }
  *at = from;
  return group;
}

}  // namespace kvferry::codec

#endif
