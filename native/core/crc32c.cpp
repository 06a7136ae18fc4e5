// Folding by carry-less multiplication, after Gopal et al., "Fast CRC Computation for Generic Polynomials Using
// PCLMULQDQ Instruction" (Intel, 2009). Bits are reflected: bit i of a 64-bit word is the coefficient of x^(63-i), so a
// carry-less product of two words stands for their product times x. Folding a 128-bit accumulator over a distance of T
// bits multiplies its halves by x^(T+64) and x^T; with constants kept in the low 32 bits of a word (which stand for
// themselves times x^32) these are x^(T+31) and x^(T-33) mod P. Where there is only an instruction for the CRC itself,
// three lanes hide its latency.
#include "crc32c.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#if defined(__GNUC__) && !defined(__clang__)
// gcc 12's own header reads a deliberately undefined register (gcc bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_acle.h>
#include <sys/auxv.h>
#endif

namespace kvferry {
namespace {

constexpr uint32_t kPolynomial = 0x82F63B78;
constexpr uint32_t kOne = 0x80000000;  // x^0

constexpr uint32_t times_x(uint32_t value) { return (value >> 1) ^ ((value & 1) != 0 ? kPolynomial : 0); }

// x^n mod P.
constexpr uint32_t power_of_x(uint32_t n) {
  uint32_t value = kOne;
  for (uint32_t i = 0; i < n; i++) value = times_x(value);
  return value;
}

constexpr uint32_t multiply(uint32_t a, uint32_t b) {
  uint32_t product = 0;
  for (uint32_t bit = kOne; bit != 0; bit >>= 1) {
    if ((a & bit) != 0) product ^= b;
    b = times_x(b);
  }
  return product;
}

constexpr auto make_tables() {
  std::array<std::array<uint32_t, 256>, 8> tables{};
  for (uint32_t byte = 0; byte < 256; byte++) {
    uint32_t value = byte;
    for (int bit = 0; bit < 8; bit++) value = times_x(value);
    tables[0][byte] = value;
  }
  for (uint32_t byte = 0; byte < 256; byte++) {
    for (int table = 1; table < 8; table++) {
      const uint32_t before = tables[table - 1][byte];
      tables[table][byte] = (before >> 8) ^ tables[0][before & 255];
    }
  }
  return tables;
}
constexpr auto kTables = make_tables();

// x^(2^k) for k = 0..30. P is (x + 1) times a primitive polynomial of degree 31, so the order of x is 2^31 - 1 and higher
// powers wrap around: x^(2^31) is x again.
constexpr uint32_t kSquaresCount = 31;
constexpr auto make_squares() {
  std::array<uint32_t, kSquaresCount> squares{};
  squares[0] = power_of_x(1);
  for (uint32_t k = 1; k < kSquaresCount; k++) squares[k] = multiply(squares[k - 1], squares[k - 1]);
  return squares;
}
constexpr auto kSquares = make_squares();
static_assert(multiply(kSquares[30], kSquares[30]) == kSquares[0]);

// A lane of the three-way loops, and what a CRC becomes behind that many zero bytes: a table for each byte of it.
constexpr size_t kLaneBytes = 1024;
constexpr auto make_lane_shift() {
  std::array<std::array<uint32_t, 256>, 4> tables{};
  const uint32_t factor = power_of_x(8 * kLaneBytes);
  for (int table = 0; table < 4; table++) {
    for (uint32_t byte = 0; byte < 256; byte++) tables[table][byte] = multiply(factor, byte << (8 * table));
  }
  return tables;
}
constexpr auto kLaneShift = make_lane_shift();

uint32_t shift_lane(uint32_t state) {
  return kLaneShift[0][state & 255] ^ kLaneShift[1][(state >> 8) & 255] ^ kLaneShift[2][(state >> 16) & 255] ^
         kLaneShift[3][state >> 24];
}

inline uint64_t load64(const uint8_t* at) {
  uint64_t word;
  memcpy(&word, at, 8);
  return word;
}

uint32_t scalar(uint32_t state, const uint8_t* at, size_t count) {
  for (; count >= 8; at += 8, count -= 8) {
    const uint64_t word = load64(at) ^ state;
    state = 0;
    for (int byte = 0; byte < 8; byte++) state ^= kTables[7 - byte][(word >> (8 * byte)) & 255];
  }
  for (; count > 0; count--) state = (state >> 8) ^ kTables[0][(state ^ *at++) & 255];
  return state;
}

#if defined(__x86_64__)

__attribute__((target("sse4.2"))) uint32_t sse42(uint32_t state, const uint8_t* at, size_t count) {
  for (; count >= 3 * kLaneBytes; at += 3 * kLaneBytes, count -= 3 * kLaneBytes) {
    uint64_t first = state, second = 0, third = 0;
    for (size_t i = 0; i < kLaneBytes; i += 8) {
      first = _mm_crc32_u64(first, load64(at + i));
      second = _mm_crc32_u64(second, load64(at + kLaneBytes + i));
      third = _mm_crc32_u64(third, load64(at + 2 * kLaneBytes + i));
    }
    state = shift_lane(shift_lane(uint32_t(first)) ^ uint32_t(second)) ^ uint32_t(third);
  }
  uint64_t wide = state;
  for (; count >= 8; at += 8, count -= 8) wide = _mm_crc32_u64(wide, load64(at));
  state = uint32_t(wide);
  for (; count > 0; count--) state = _mm_crc32_u8(state, *at++);
  return state;
}

constexpr uint32_t fold_low(uint32_t distance_bits) { return power_of_x(distance_bits + 31); }
constexpr uint32_t fold_high(uint32_t distance_bits) { return power_of_x(distance_bits - 33); }

#define KVFERRY_FOLD128(accumulator, distance)                                                                 \
  _mm_xor_si128(_mm_clmulepi64_si128(accumulator, _mm_set_epi64x(fold_high(distance), fold_low(distance)), 0x00), \
                _mm_clmulepi64_si128(accumulator, _mm_set_epi64x(fold_high(distance), fold_low(distance)), 0x11))

// What is left of the message's head in 128 bits, then the tail.
__attribute__((target("sse4.2,pclmul"))) uint32_t finish(__m128i head, const uint8_t* at, size_t count) {
  uint64_t wide = _mm_crc32_u64(0, uint64_t(_mm_cvtsi128_si64(head)));
  wide = _mm_crc32_u64(wide, uint64_t(_mm_extract_epi64(head, 1)));
  return sse42(uint32_t(wide), at, count);
}

__attribute__((target("sse4.2,pclmul"))) uint32_t pclmul(uint32_t state, const uint8_t* at, size_t count) {
  // Three lanes of the CRC instruction are faster than folding by 128 bits, once they are long enough.
  if (count < 128 || count >= 3 * kLaneBytes) return sse42(state, at, count);
  const auto load = [](const uint8_t* from) __attribute__((target("sse4.2,pclmul"))) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  };
  __m128i a = _mm_xor_si128(load(at), _mm_cvtsi32_si128(int(state)));
  __m128i b = load(at + 16), c = load(at + 32), d = load(at + 48);
  at += 64, count -= 64;
  for (; count >= 64; at += 64, count -= 64) {
    a = _mm_xor_si128(KVFERRY_FOLD128(a, 512), load(at));
    b = _mm_xor_si128(KVFERRY_FOLD128(b, 512), load(at + 16));
    c = _mm_xor_si128(KVFERRY_FOLD128(c, 512), load(at + 32));
    d = _mm_xor_si128(KVFERRY_FOLD128(d, 512), load(at + 48));
  }
  b = _mm_xor_si128(KVFERRY_FOLD128(a, 128), b);
  c = _mm_xor_si128(KVFERRY_FOLD128(b, 128), c);
  d = _mm_xor_si128(KVFERRY_FOLD128(c, 128), d);
  return finish(d, at, count);
}

#define KVFERRY_AVX2 __attribute__((target("avx2,vpclmulqdq,pclmul,sse4.2")))

KVFERRY_AVX2 inline __m256i load256(const uint8_t* from) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}

KVFERRY_AVX2 inline __m256i factors256(uint32_t low, uint32_t high) { return _mm256_set_epi64x(high, low, high, low); }

KVFERRY_AVX2 inline __m256i fold256(__m256i accumulator, __m256i factors, __m256i next) {
  const __m256i low = _mm256_clmulepi64_epi128(accumulator, factors, 0x00);
  const __m256i high = _mm256_clmulepi64_epi128(accumulator, factors, 0x11);
  return _mm256_xor_si256(_mm256_xor_si256(low, high), next);
}

KVFERRY_AVX2 uint32_t vpclmul256(uint32_t state, const uint8_t* at, size_t count) {
  if (count < 256) return pclmul(state, at, count);
  __m256i a = _mm256_xor_si256(load256(at), _mm256_zextsi128_si256(_mm_cvtsi32_si128(int(state))));
  __m256i b = load256(at + 32), c = load256(at + 64), d = load256(at + 96);
  at += 128, count -= 128;
  const __m256i by1024 = factors256(fold_low(1024), fold_high(1024));
  for (; count >= 128; at += 128, count -= 128) {
    a = fold256(a, by1024, load256(at));
    b = fold256(b, by1024, load256(at + 32));
    c = fold256(c, by1024, load256(at + 64));
    d = fold256(d, by1024, load256(at + 96));
  }
  const __m256i by256 = factors256(fold_low(256), fold_high(256));
  b = fold256(a, by256, b);
  c = fold256(b, by256, c);
  d = fold256(c, by256, d);
  __m128i head = _mm256_extracti128_si256(d, 0);
  head = _mm_xor_si128(KVFERRY_FOLD128(head, 128), _mm256_extracti128_si256(d, 1));
  // Compilers leave it out before a tail call; without it whatever comes next and was compiled for SSE is slow.
  _mm256_zeroupper();
  return finish(head, at, count);
}

#define KVFERRY_AVX512 __attribute__((target("avx512f,vpclmulqdq,pclmul,sse4.2")))

KVFERRY_AVX512 inline __m512i factors512(uint32_t low, uint32_t high) {
  return _mm512_set_epi64(high, low, high, low, high, low, high, low);
}

KVFERRY_AVX512 inline __m512i fold512(__m512i accumulator, __m512i factors, __m512i next) {
  const __m512i low = _mm512_clmulepi64_epi128(accumulator, factors, 0x00);
  const __m512i high = _mm512_clmulepi64_epi128(accumulator, factors, 0x11);
  return _mm512_ternarylogic_epi64(low, high, next, 0x96);  // xor of three
}

KVFERRY_AVX512 uint32_t vpclmul512(uint32_t state, const uint8_t* at, size_t count) {
  if (count < 512) return pclmul(state, at, count);
  __m512i a = _mm512_xor_si512(_mm512_loadu_si512(at), _mm512_zextsi128_si512(_mm_cvtsi32_si128(int(state))));
  __m512i b = _mm512_loadu_si512(at + 64), c = _mm512_loadu_si512(at + 128), d = _mm512_loadu_si512(at + 192);
  at += 256, count -= 256;
  const __m512i by2048 = factors512(fold_low(2048), fold_high(2048));
  for (; count >= 256; at += 256, count -= 256) {
    a = fold512(a, by2048, _mm512_loadu_si512(at));
    b = fold512(b, by2048, _mm512_loadu_si512(at + 64));
    c = fold512(c, by2048, _mm512_loadu_si512(at + 128));
    d = fold512(d, by2048, _mm512_loadu_si512(at + 192));
  }
  const __m512i by512 = factors512(fold_low(512), fold_high(512));
  b = fold512(a, by512, b);
  c = fold512(b, by512, c);
  d = fold512(c, by512, d);
  for (; count >= 64; at += 64, count -= 64) d = fold512(d, by512, _mm512_loadu_si512(at));
  __m128i head = _mm512_extracti32x4_epi32(d, 0);
  head = _mm_xor_si128(KVFERRY_FOLD128(head, 128), _mm512_extracti32x4_epi32(d, 1));
  head = _mm_xor_si128(KVFERRY_FOLD128(head, 128), _mm512_extracti32x4_epi32(d, 2));
  head = _mm_xor_si128(KVFERRY_FOLD128(head, 128), _mm512_extracti32x4_epi32(d, 3));
  _mm256_zeroupper();
  return finish(head, at, count);
}

#elif defined(__aarch64__)

#if defined(__clang__)
#define KVFERRY_CRC __attribute__((target("crc")))
#else
#define KVFERRY_CRC __attribute__((target("+crc")))
#endif

KVFERRY_CRC uint32_t arm64(uint32_t state, const uint8_t* at, size_t count) {
  for (; count >= 3 * kLaneBytes; at += 3 * kLaneBytes, count -= 3 * kLaneBytes) {
    uint32_t first = state, second = 0, third = 0;
    for (size_t i = 0; i < kLaneBytes; i += 8) {
      first = __crc32cd(first, load64(at + i));
      second = __crc32cd(second, load64(at + kLaneBytes + i));
      third = __crc32cd(third, load64(at + 2 * kLaneBytes + i));
    }
    state = shift_lane(shift_lane(first) ^ second) ^ third;
  }
  for (; count >= 8; at += 8, count -= 8) state = __crc32cd(state, load64(at));
  for (; count > 0; count--) state = __crc32cb(state, *at++);
  return state;
}

#endif

using Function = uint32_t (*)(uint32_t, const uint8_t*, size_t);

struct Choice {
  const char* name;
  Function function;
  bool available;
};

// Best first. The scalar one is last, and always there.
const Choice* choices(size_t* count) {
#if defined(__x86_64__)
  static const bool has_sse = __builtin_cpu_supports("sse4.2");
  static const bool has_pclmul = has_sse && __builtin_cpu_supports("pclmul");
  static const bool has_wide = has_pclmul && __builtin_cpu_supports("vpclmulqdq");
  static const Choice all[] = {
      {"vpclmulqdq-512", vpclmul512, has_wide && __builtin_cpu_supports("avx512f")},
      {"vpclmulqdq-256", vpclmul256, has_wide && __builtin_cpu_supports("avx2")},
      {"pclmulqdq", pclmul, has_pclmul},
      {"sse4.2", sse42, has_sse},
      {"scalar", scalar, true},
  };
#elif defined(__aarch64__)
  constexpr unsigned long kHwcapCrc32 = 1 << 7;
  static const bool has_crc = (getauxval(AT_HWCAP) & kHwcapCrc32) != 0;
  static const Choice all[] = {{"arm64-crc", arm64, has_crc}, {"scalar", scalar, true}};
#else
  static const Choice all[] = {{"scalar", scalar, true}};
#endif
  *count = sizeof all / sizeof *all;
  return all;
}

const Choice& best() {
  static const Choice* chosen = [] {
    size_t count;
    const Choice* choice = choices(&count);
    while (!choice->available) choice++;
    return choice;
  }();
  return *chosen;
}

}  // namespace

uint32_t crc32c(uint32_t crc, const void* bytes, size_t count) {
  return ~best().function(~crc, static_cast<const uint8_t*>(bytes), count);
}

uint32_t crc32c_scalar(uint32_t crc, const void* bytes, size_t count) {
  return ~scalar(~crc, static_cast<const uint8_t*>(bytes), count);
}

uint32_t crc32c_combine(uint32_t head, uint32_t tail, uint64_t tail_count) {
  // Pieces of one stream are mostly of one length.
  thread_local uint64_t known_count = 0;
  thread_local uint32_t factor = kOne;
  if (tail_count != known_count) {
    // x^(8 * tail_count), by squares.
    factor = kOne;
    uint32_t k = 3;
    for (uint64_t rest = tail_count; rest != 0; rest >>= 1, k = (k + 1) % kSquaresCount) {
      if ((rest & 1) != 0) factor = multiply(kSquares[k], factor);
    }
    known_count = tail_count;
  }
  return multiply(factor, head) ^ tail;
}

const char* crc32c_name() { return best().name; }

std::vector<const char*> crc32c_names() {
  size_t count;
  const Choice* all = choices(&count);
  std::vector<const char*> names;
  for (size_t index = 0; index < count; index++) {
    if (all[index].available) names.push_back(all[index].name);
  }
  return names;
}

bool crc32c_by_name(const char* name, uint32_t crc, const void* bytes, size_t count, uint32_t* result) {
  size_t number;
  const Choice* all = choices(&number);
  for (size_t i = 0; i < number; i++) {
    if (!all[i].available || strcmp(all[i].name, name) != 0) continue;
    *result = ~all[i].function(~crc, static_cast<const uint8_t*>(bytes), count);
    return true;
  }
  return false;
}

}  // namespace kvferry
