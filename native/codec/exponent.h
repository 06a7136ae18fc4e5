// Lossless for values of 2 bytes whose exponents are alike (bf16, f16): bits 7..14 of each (bf16: the exponent; f16: the exponent and
// three bits of the mantissa) by rANS, the rest raw.
//
// A block: a byte of each value (sign, low 7 bits), then unless there is no value the table of the others (rans.h) and their stream.
// As in rans.h, a block that decodes is the only one of its values with that table.
#pragma once
#include <cstddef>
#include <cstdint>

#include "rans.h"
#include "scratch.h"

namespace kvferry::codec {

// Bytes that `out` must have. A block that does not shrink is longer than 2 * count: the caller sees it by its length.
constexpr size_t exponent_bound(size_t count) { return count + kRansTableBytesMax + rans_bound(count); }
// `values`: 2 * count bytes, little-endian, however aligned. Returns the bytes of the block.
size_t exponent_encode(const uint8_t* values, size_t count, uint8_t* out, Scratch& scratch, Isa isa = best_isa());
// False: no block of that many values. Reads nothing outside `in`, writes nothing outside `values`.
bool exponent_decode(const uint8_t* in, size_t bytes, uint8_t* values, size_t count, Scratch& scratch, Isa isa = best_isa());

}  // namespace kvferry::codec
