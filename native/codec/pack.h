// Codes of less than a byte, packed: codes of equal width bit by bit, little-endian (code i begins at bit i * bits); levels that are
// no power of two in words of up to 7 bytes, each the number that its codes are the digits of, the first code the lowest digit, where
// that is denser.
#pragma once
#include <cstddef>
#include <cstdint>

#include "isa.h"

namespace kvferry::codec {

// How codes of 0 .. levels - 1 travel: `codes` of them in `bytes` bytes. Bit by bit: 8 codes in as many bytes as a code has bits.
struct Packing {
  uint32_t levels;  // 2..256
  uint32_t codes;
  uint32_t bytes;
  bool dense;
};
// The densest for these levels; a dense one only where it saves a 32nd or more.
Packing packing_of(uint32_t levels);
// Bytes that so many codes take, exactly: no word or byte more than needed.
size_t packed_bytes(const Packing& packing, size_t count);
// `codes` below packing.levels; anything else gives bytes that do not decode to it, and no worse. `out` has packed_bytes.
void pack(const Packing& packing, const uint8_t* codes, size_t count, uint8_t* out, Isa isa = best_isa());
// False: not packed_bytes, a code that is not below packing.levels, or a bit set behind the last code.
bool unpack(const Packing& packing, const uint8_t* in, size_t bytes, uint8_t* codes, size_t count, Isa isa = best_isa());

}  // namespace kvferry::codec
