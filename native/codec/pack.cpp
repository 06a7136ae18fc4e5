#include "pack.h"

#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace kvferry::codec {
namespace {

constexpr uint32_t kBytesMost = 7;

inline uint64_t load_some(const uint8_t* from, size_t bytes) {
  uint64_t word = 0;
  for (size_t byte = 0; byte < bytes; byte++) word |= uint64_t(from[byte]) << (8 * byte);
  return word;
}

inline void store_some(uint8_t* to, size_t bytes, uint64_t word) {
  for (size_t byte = 0; byte < bytes; byte++) to[byte] = uint8_t(word >> (8 * byte));
}

// How many digits of `levels` fit in so many bytes, at most 7.
uint32_t digits_in(uint32_t levels, uint32_t bytes) {
  const uint64_t end = 1ull << (8 * bytes);
  uint32_t digits = 0;
  for (uint64_t power = levels; power <= end; power *= levels) digits++;
  return digits;
}

// Bytes of the last word, if it has only so many codes.
size_t rest_bytes(const Packing& packing, size_t codes) {
  if (!packing.dense) return (codes * packing.bytes + 7) / 8;
  uint32_t bytes = 0;
  while (digits_in(packing.levels, bytes) < codes) bytes++;
  return bytes;
}

uint64_t gather_bits(const uint8_t* codes, size_t count, uint32_t bits) {
  uint64_t word = 0;
  for (size_t code = 0; code < count; code++) word |= uint64_t(codes[code] & ((1u << bits) - 1)) << (code * bits);
  return word;
}

void scatter_bits(uint64_t word, uint8_t* codes, size_t count, uint32_t bits) {
  for (size_t code = 0; code < count; code++) codes[code] = uint8_t(word >> (code * bits) & ((1u << bits) - 1));
}

// Whole words of 8 codes; how many were done. Those of vectors leave the last ones, because they move 8 bytes at a time.
size_t pack_words(const uint8_t* codes, size_t words, uint32_t bits, uint8_t* out) {
  for (size_t word = 0; word < words; word++) store_some(out + word * bits, bits, gather_bits(codes + 8 * word, 8, bits));
  return words;
}

size_t unpack_words(const uint8_t* in, size_t words, uint32_t bits, uint8_t* codes) {
  for (size_t word = 0; word < words; word++) scatter_bits(load_some(in + word * bits, bits), codes + 8 * word, 8, bits);
  return words;
}

#if defined(__x86_64__)
#define KVFERRY_AVX2 __attribute__((target("avx2,bmi2")))
#else
#define KVFERRY_AVX2
#endif

// Codes of 4 bits are halves of bytes: plain loops that compilers make vectors of.
KVFERRY_AVX2 size_t pack_halves(const uint8_t* __restrict codes, size_t words, uint8_t* __restrict out) {
  for (size_t byte = 0; byte < 4 * words; byte++) out[byte] = uint8_t((codes[2 * byte] & 15) | codes[2 * byte + 1] << 4);
  return words;
}

KVFERRY_AVX2 size_t unpack_halves(const uint8_t* __restrict in, size_t words, uint8_t* __restrict codes) {
  for (size_t byte = 0; byte < 4 * words; byte++) codes[2 * byte] = in[byte] & 15, codes[2 * byte + 1] = in[byte] >> 4;
  return words;
}

#if defined(__x86_64__)

KVFERRY_AVX2 size_t pack_words_bmi2(const uint8_t* codes, size_t words, uint32_t bits, uint8_t* out) {
  const uint64_t mask = 0x0101010101010101ull * ((1u << bits) - 1);
  size_t word = 0;
  for (; (words - word) * bits >= 8; word++) {
    uint64_t eight;
    memcpy(&eight, codes + 8 * word, 8);
    eight = _pext_u64(eight, mask);
    memcpy(out + word * bits, &eight, 8);
  }
  return word;
}

KVFERRY_AVX2 size_t unpack_words_bmi2(const uint8_t* in, size_t words, uint32_t bits, uint8_t* codes) {
  const uint64_t mask = 0x0101010101010101ull * ((1u << bits) - 1);
  size_t word = 0;
  for (; (words - word) * bits >= 8; word++) {
    uint64_t eight;
    memcpy(&eight, in + word * bits, 8);
    eight = _pdep_u64(eight, mask);
    memcpy(codes + 8 * word, &eight, 8);
  }
  return word;
}

#endif

void pack_bits(uint32_t bits, const uint8_t* codes, size_t count, uint8_t* out, Isa isa) {
  const size_t words = count / 8, rest = count % 8;
  size_t done = 0;
  if (bits == 4 && isa != Isa::scalar) done = pack_halves(codes, words, out);
#if defined(__x86_64__)
  else if (isa != Isa::scalar) done = pack_words_bmi2(codes, words, bits, out);
#endif
  pack_words(codes + 8 * done, words - done, bits, out + done * bits);
  store_some(out + words * bits, (rest * bits + 7) / 8, gather_bits(codes + 8 * words, rest, bits));
}

bool unpack_bits(uint32_t bits, const uint8_t* in, uint8_t* codes, size_t count, Isa isa) {
  const size_t words = count / 8, rest = count % 8;
  size_t done = 0;
  if (bits == 4 && isa != Isa::scalar) done = unpack_halves(in, words, codes);
#if defined(__x86_64__)
  else if (isa != Isa::scalar) done = unpack_words_bmi2(in, words, bits, codes);
#endif
  unpack_words(in + done * bits, words - done, bits, codes + 8 * done);
  const uint64_t last = load_some(in + words * bits, (rest * bits + 7) / 8);
  scatter_bits(last, codes + 8 * words, rest, bits);
  return last >> (rest * bits) == 0;
}

bool are_below(const uint8_t* codes, size_t count, uint32_t levels) {
  uint8_t most = 0;
  for (size_t at = 0; at < count; at++) most = codes[at] > most ? codes[at] : most;
  return most < levels;
}

uint64_t number_of(const uint8_t* codes, size_t count, uint32_t levels) {
  uint64_t number = 0;
  for (size_t code = count; code-- > 0;) number = number * levels + codes[code];
  return number;
}

// False: a number of more digits. Words have at most 56 bits, so a product with the rounded-up inverse is right to the last digit.
bool digits_of(uint64_t number, uint8_t* codes, size_t count, uint32_t levels) {
  const uint64_t inverse = ~0ull / levels + 1;
  for (size_t code = 0; code < count; code++) {
    const uint64_t quotient = uint64_t((unsigned __int128)number * inverse >> 64);
    codes[code] = uint8_t(number - quotient * levels);
    number = quotient;
  }
  return number == 0;
}

}  // namespace

Packing packing_of(uint32_t levels) {
  uint32_t bits = 1;
  while (levels > 1u << bits) bits++;
  Packing packing = {levels, 8, bits, false};
  for (uint32_t bytes = 1; bytes <= kBytesMost && levels != 1u << bits; bytes++) {
    const uint32_t codes = digits_in(levels, bytes);
    const bool pays = 8 * bytes * 32 <= bits * 31 * codes;
    if (pays && bytes * packing.codes < packing.bytes * codes) packing = {levels, codes, bytes, true};
  }
  return packing;
}

size_t packed_bytes(const Packing& packing, size_t count) {
  return count / packing.codes * packing.bytes + rest_bytes(packing, count % packing.codes);
}

void pack(const Packing& packing, const uint8_t* codes, size_t count, uint8_t* out, Isa isa) {
  if (!packing.dense) return pack_bits(packing.bytes, codes, count, out, isa);
  for (; count >= packing.codes; count -= packing.codes, codes += packing.codes, out += packing.bytes) {
    store_some(out, packing.bytes, number_of(codes, packing.codes, packing.levels));
  }
  store_some(out, rest_bytes(packing, count), number_of(codes, count, packing.levels));
}

bool unpack(const Packing& packing, const uint8_t* in, size_t bytes, uint8_t* codes, size_t count, Isa isa) {
  if (bytes != packed_bytes(packing, count)) return false;
  if (!packing.dense) {
    const bool whole = unpack_bits(packing.bytes, in, codes, count, isa);
    return whole && (packing.levels == 1u << packing.bytes || are_below(codes, count, packing.levels));
  }
  bool whole = true;
  for (; count >= packing.codes; count -= packing.codes, codes += packing.codes, in += packing.bytes) {
    whole = digits_of(load_some(in, packing.bytes), codes, packing.codes, packing.levels) && whole;
  }
  return digits_of(load_some(in, rest_bytes(packing, count)), codes, count, packing.levels) && whole;
}

}  // namespace kvferry::codec
