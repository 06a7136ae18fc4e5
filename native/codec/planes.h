// Byte planes: all first bytes of the elements, then all second ones, and so on, so that a byte coder sees like beside like.
#pragma once
#include <cstddef>
#include <cstdint>

#include "isa.h"

namespace kvferry::codec {

// `from` and `to` have count * element_bytes bytes each and do not overlap; element_bytes is 1..8.
void split_planes(const uint8_t* from, size_t count, size_t element_bytes, uint8_t* to);
void join_planes(const uint8_t* from, size_t count, size_t element_bytes, uint8_t* to);

// Of values of 2 bytes: bits 7..14 to `middle`, bit 15 and bits 0..6 (as 0..6) to `rest`; count bytes each.
void split_middle(const uint8_t* values, size_t count, uint8_t* middle, uint8_t* rest, Isa isa = best_isa());
void join_middle(const uint8_t* middle, const uint8_t* rest, size_t count, uint8_t* values, Isa isa = best_isa());
// How often each byte occurs, added to `counts` (256); fewer than 2^32 bytes.
void count_bytes(const uint8_t* bytes, size_t count, uint32_t* counts);

}  // namespace kvferry::codec
