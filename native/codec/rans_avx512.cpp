// 32 states in two vectors. See rans.cpp for what is computed; here only how.
#if defined(__x86_64__)
#if defined(__GNUC__) && !defined(__clang__)
// gcc 12's own header reads a deliberately undefined register (gcc bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>

#include "rans_kernels.h"

#define KVFERRY_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,bmi,bmi2,popcnt")))

namespace kvferry::codec {
namespace {

constexpr size_t kHalf = 16;

KVFERRY_AVX512 inline __m512i entries(const uint32_t* base, const uint32_t* offsets, __m512i index) {
  return _mm512_i32gather_epi32(_mm512_add_epi32(_mm512_loadu_si512(offsets), index), base, 4);
}

// Words of the states that are full, written below `to` in the order of the states.
KVFERRY_AVX512 inline uint8_t* push(__m512i* states, __m512i entry, uint8_t* to) {
  const __m512i low_ones = _mm512_set1_epi32(0x7ffff), high = _mm512_set1_epi32(0x7ff80000);
  // (a & b) | c: the greatest state below frequency << 19.
  const __m512i most = _mm512_ternarylogic_epi32(_mm512_slli_epi32(entry, 19), high, low_ones, 0xea);
  const __mmask16 full = _mm512_cmpgt_epi32_mask(*states, most);
  const __m256i words = _mm256_maskz_compress_epi16(full, _mm512_cvtepi32_epi16(*states));
  const uint32_t count = uint32_t(_mm_popcnt_u32(full));
  to -= 2 * count;
  _mm256_mask_storeu_epi16(to, __mmask16(_bzhi_u32(0xffff, count)), words);
  *states = _mm512_mask_srli_epi32(*states, full, *states, 16);
  return to;
}

// The quotient by floats, rounded down all the way, is right or one too small: it is below 2^19 and wrong by less than 2^-21 of it.
KVFERRY_AVX512 inline __m512i step(__m512i state, __m512i entry) {
  constexpr int kDown = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC;
  const __m512i twelve = _mm512_set1_epi32(0xfff);
  const __m512i below = _mm512_and_si512(entry, twelve);  // frequency - 1
  const __m512i frequency = _mm512_add_epi32(below, _mm512_set1_epi32(1));
  const __m512i start = _mm512_and_si512(_mm512_srli_epi32(entry, 12), twelve);
  const __m512 ratio = _mm512_div_round_ps(_mm512_cvt_roundepi32_ps(state, kDown), _mm512_cvtepi32_ps(frequency), kDown);
  const __m512i quotient = _mm512_cvttps_epi32(ratio);
  const __m512i rest = _mm512_sub_epi32(state, _mm512_mullo_epi32(quotient, frequency));
  const __mmask16 small = _mm512_cmpgt_epi32_mask(rest, below);
  const __m512i next = _mm512_add_epi32(_mm512_add_epi32(_mm512_slli_epi32(quotient, 12), rest), start);
  return _mm512_mask_add_epi32(next, small, next, _mm512_xor_si512(below, twelve));
}

}  // namespace

KVFERRY_AVX512 uint8_t* rans_encode_avx512(const uint8_t* symbols, size_t groups, size_t column, const RansColumns& columns,
                                           uint32_t* states, uint8_t* to, uint32_t* absent) {
  const size_t width = columns.width(), back = kRansLanes % width;
  const uint32_t* base = columns.encode_base();
  column = (column + back * (groups % width)) % width;
  __m512i first = _mm512_loadu_si512(states), second = _mm512_loadu_si512(states + kHalf), seen = _mm512_setzero_si512();
  for (size_t group = groups; group-- > 0;) {
    column = column >= back ? column - back : column + width - back;
    const uint8_t* from = symbols + group * kRansLanes;
    const uint32_t* offsets = columns.offsets(column);
    const __m512i low = entries(base, offsets, _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
    const __m512i high =
        entries(base, offsets + kHalf, _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + kHalf))));
    seen = _mm512_ternarylogic_epi32(seen, low, high, 0xfe);  // or of three
    to = push(&second, high, to);
    to = push(&first, low, to);
    second = step(second, high);
    first = step(first, low);
  }
  _mm512_storeu_si512(states, first);
  _mm512_storeu_si512(states + kHalf, second);
  *absent |= uint32_t(_mm512_reduce_or_epi32(seen));
  return to;
}

KVFERRY_AVX512 size_t rans_decode_avx512(const uint8_t** at, const uint8_t* last, uint8_t* symbols, size_t groups, size_t column,
                                         const RansColumns& columns, uint32_t* states) {
  const size_t width = columns.width(), forth = kRansLanes % width;
  const uint32_t* base = columns.decode_base();
  const __m512i twelve = _mm512_set1_epi32(0xfff), low_bound = _mm512_set1_epi32(kRansLow);
  __m512i first = _mm512_loadu_si512(states), second = _mm512_loadu_si512(states + kHalf);
  const uint8_t* from = *at;
  size_t group = 0;
  const auto advance = [&](__m512i state, __m512i entry) KVFERRY_AVX512 {
    const __m512i count = _mm512_srli_epi32(state, 12), below = _mm512_and_si512(_mm512_srli_epi32(entry, 8), twelve);
    const __m512i place = _mm512_add_epi32(_mm512_srli_epi32(entry, 20), count);
    return _mm512_add_epi32(_mm512_mullo_epi32(count, below), place);
  };
  const auto pull = [&](__m512i state, __mmask16 empty, const uint8_t* words) KVFERRY_AVX512 {
    const __m256i spread = _mm256_maskz_expand_epi16(empty, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(words)));
    return _mm512_or_si512(_mm512_mask_slli_epi32(state, empty, state, 16), _mm512_cvtepu16_epi32(spread));
  };
  for (; group < groups && from <= last; group++) {
    const uint32_t* offsets = columns.offsets(column);
    const __m512i low = entries(base, offsets, _mm512_and_si512(first, twelve));
    const __m512i high = entries(base, offsets + kHalf, _mm512_and_si512(second, twelve));
    uint8_t* to = symbols + group * kRansLanes;
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(low));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + kHalf), _mm512_cvtepi32_epi8(high));
    first = advance(first, low);
    second = advance(second, high);
    const __mmask16 first_empty = _mm512_cmplt_epi32_mask(first, low_bound), second_empty = _mm512_cmplt_epi32_mask(second, low_bound);
    const uint8_t* between = from + 2 * _mm_popcnt_u32(first_empty);
    first = pull(first, first_empty, from);
    second = pull(second, second_empty, between);
    from = between + 2 * _mm_popcnt_u32(second_empty);
    column = column + forth >= width ? column + forth - width : column + forth;
  }
  _mm512_storeu_si512(states, first);
  _mm512_storeu_si512(states + kHalf, second);
  *at = from;
  return group;
}

}  // namespace kvferry::codec

#endif
