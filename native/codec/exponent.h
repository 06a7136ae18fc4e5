// Lossless for values of 2 bytes whose exponents are alike (bf16, f16): bits 7..14 of each (bf16: the exponent; f16: the exponent and
// three bits of the mantissa) by rANS, the rest raw. Columns differ more than rows do, so where it pays columns of like size share a
// table.
//
// A block: a byte of each value (sign, low 7 bits); then unless there is no value: how many tables less one (0..7); if there are
// several, a byte for each column that says which it uses; the tables (rans.h); the stream of the others.
#pragma once
#include <cstddef>
#include <cstdint>

#include "rans.h"
#include "scratch.h"

namespace kvferry::codec {

constexpr size_t kExponentTables = 8;
// Bytes that `out` must have. A block that does not shrink has more than 2 * rows * width: the caller sees it by its length.
constexpr size_t exponent_bound(size_t rows, size_t width) {
  return rows * width + 1 + width + kExponentTables * kRansTableBytesMax + rans_bound(rows * width);
}
// `values`: 2 * rows * width bytes, little-endian, however aligned. Returns the bytes of the block.
size_t exponent_encode(const uint8_t* values, size_t rows, size_t width, uint8_t* out, Scratch& scratch, Isa isa = best_isa());
// False: no block of that many values. Reads nothing outside `in`, writes nothing outside `values`.
bool exponent_decode(const uint8_t* in, size_t bytes, uint8_t* values, size_t rows, size_t width, Scratch& scratch, Isa isa = best_isa());

}  // namespace kvferry::codec
