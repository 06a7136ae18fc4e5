// The inner loops of rans.cpp, one for each instruction set: whole groups of 32 symbols.
#pragma once
#include "rans.h"

namespace kvferry::codec {

constexpr uint32_t kRansLow = 1 << 15;  // of a state: [2^15, 2^31)

// Encodes groups from the last to the first; `symbols` and `column` are those of the first. Words are written downwards from `to`; at
// least 128 bytes in front of them are the caller's as well, and may be overwritten. Returns where the words begin. `absent` gets bit
// 31 if a symbol has no probability.
using RansEncodeGroups = uint8_t* (*)(const uint8_t* symbols, size_t groups, size_t column, const RansColumns& columns,
                                      uint32_t* states, uint8_t* to, uint32_t* absent);
// Decodes groups from the first to the last, while `at` is not beyond `last`; returns how many. Up to 64 bytes from `last` on are read.
using RansDecodeGroups = size_t (*)(const uint8_t** at, const uint8_t* last, uint8_t* symbols, size_t groups, size_t column,
                                    const RansColumns& columns, uint32_t* states);

#if defined(__x86_64__)
uint8_t* rans_encode_avx2(const uint8_t*, size_t, size_t, const RansColumns&, uint32_t*, uint8_t*, uint32_t*);
size_t rans_decode_avx2(const uint8_t**, const uint8_t*, uint8_t*, size_t, size_t, const RansColumns&, uint32_t*);
uint8_t* rans_encode_avx512(const uint8_t*, size_t, size_t, const RansColumns&, uint32_t*, uint8_t*, uint32_t*);
size_t rans_decode_avx512(const uint8_t**, const uint8_t*, uint8_t*, size_t, size_t, const RansColumns&, uint32_t*);
#endif

}  // namespace kvferry::codec
