// After Duda, "Asymmetric numeral systems" (2013), and Giesen, "Interleaved entropy coders" (2014). An encoder begins at the last
// symbol and writes downwards, so that a decoder begins at the first and reads upwards.
#include "rans.h"

#include <cstring>

#include "rans_kernels.h"

namespace kvferry::codec {
namespace {

inline void store16(uint8_t* to, uint32_t word) {
  to[0] = uint8_t(word);
  to[1] = uint8_t(word >> 8);
}

// Of `lanes` symbols, the last first.
uint8_t* encode_lanes(const uint8_t* symbols, size_t lanes, size_t column, const RansColumns& columns, uint32_t* states, uint8_t* to,
                      uint32_t* absent) {
  const uint32_t* offsets = columns.offsets(column);
  for (size_t lane = lanes; lane-- > 0;) {
    const uint32_t entry = columns.encode_base()[offsets[lane] + symbols[lane]];
    const uint32_t frequency = (entry & 0xfff) + 1, start = (entry >> 12) & 0xfff;
    *absent |= entry;
    uint32_t state = states[lane];
    if (state >= frequency << 19) {
      to -= 2;
      store16(to, state);
      state >>= 16;
    }
    states[lane] = ((state / frequency) << 12) + state % frequency + start;
  }
  return to;
}

// False: words are missing.
bool decode_lanes(const uint8_t** at, const uint8_t* end, uint8_t* symbols, size_t lanes, size_t column, const RansColumns& columns,
                  uint32_t* states) {
  const uint32_t* offsets = columns.offsets(column);
  for (size_t lane = 0; lane < lanes; lane++) {
    uint32_t state = states[lane];
    const uint32_t entry = columns.decode_base()[offsets[lane] + (state & 0xfff)];
    symbols[lane] = uint8_t(entry);
    state = (state >> 12) * (((entry >> 8) & 0xfff) + 1) + (entry >> 20);
    if (state < kRansLow) {
      if (end - *at < 2) return false;
      state = state << 16 | uint32_t((*at)[0]) | uint32_t((*at)[1]) << 8;
      *at += 2;
    }
    states[lane] = state;
  }
  return true;
}

uint8_t* encode_scalar(const uint8_t* symbols, size_t groups, size_t column, const RansColumns& columns, uint32_t* states, uint8_t* to,
                       uint32_t* absent) {
  const size_t width = columns.width(), step = kRansLanes % width;
  column = (column + step * (groups % width)) % width;
  for (size_t group = groups; group-- > 0;) {
    column = column >= step ? column - step : column + width - step;
    to = encode_lanes(symbols + group * kRansLanes, kRansLanes, column, columns, states, to, absent);
  }
  return to;
}

size_t decode_scalar(const uint8_t** at, const uint8_t* last, uint8_t* symbols, size_t groups, size_t column, const RansColumns& columns,
                     uint32_t* states) {
  const size_t width = columns.width(), step = kRansLanes % width;
  for (size_t group = 0; group < groups; group++) {
    if (*at > last) return group;
    // A group takes at most 64 bytes, so none are missing.
    decode_lanes(at, last + 2 * kRansLanes, symbols + group * kRansLanes, kRansLanes, column, columns, states);
    column = column + step >= width ? column + step - width : column + step;
  }
  return groups;
}

RansEncodeGroups encoder_of([[maybe_unused]] Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::avx512) return rans_encode_avx512;
  if (isa == Isa::avx2) return rans_encode_avx2;
#endif
  return encode_scalar;
}

RansDecodeGroups decoder_of([[maybe_unused]] Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::avx512) return rans_decode_avx512;
  if (isa == Isa::avx2) return rans_decode_avx2;
#endif
  return decode_scalar;
}

// The groups behind which 64 bytes follow are decoded where they lie, the last ones from a copy, so that vectors may read beyond the end.
bool decode_groups(const uint8_t** at, const uint8_t* end, uint8_t* symbols, size_t groups, const RansColumns& columns, uint32_t* states,
                   Isa isa) {
  constexpr size_t kGroupBytes = 2 * kRansLanes;
  const RansDecodeGroups decode = decoder_of(isa);
  size_t done = 0;
  if (size_t(end - *at) >= kGroupBytes) done = decode(at, end - kGroupBytes, symbols, groups, 0, columns, states);
  if (done == groups) return true;
  uint8_t copy[2 * kGroupBytes] = {};
  const size_t left = size_t(end - *at);
  if (left >= kGroupBytes) return false;
  memcpy(copy, *at, left);
  const uint8_t* in_copy = copy;
  const size_t column = done % columns.width() * (kRansLanes % columns.width()) % columns.width();
  const size_t more = decode(&in_copy, copy + left, symbols + done * kRansLanes, groups - done, column, columns, states);
  const size_t taken = size_t(in_copy - copy);
  if (more < groups - done || taken > left) return false;
  *at += taken;
  return true;
}

}  // namespace

RansColumns::RansColumns(const RansTable& table) : tables_(&table), width_(1), offsets_(1 + kRansLanes) {}

bool RansColumns::make(const RansTable* tables, size_t table_count, const uint8_t* table_of, size_t width, RansColumns* columns) {
  if (width == 0) return false;
  for (size_t column = 0; column < width; column++) {
    if (table_of[column] >= table_count) return false;
  }
  columns->tables_ = tables;
  columns->width_ = width;
  columns->offsets_.resize(width + kRansLanes);
  for (size_t column = 0; column < width + kRansLanes; column++) {
    columns->offsets_[column] = uint32_t(table_of[column % width] * (sizeof(RansTable) / sizeof(uint32_t)));
  }
  return true;
}

bool rans_encode(const uint8_t* symbols, size_t rows, const RansColumns& columns, uint8_t* out, size_t* bytes, Isa isa) {
  const size_t count = rows * columns.width(), groups = count / kRansLanes, rest = count % kRansLanes, body = count - rest;
  uint32_t states[kRansLanes], absent = 0;
  for (uint32_t& state : states) state = kRansLow;
  uint8_t* const end = out + rans_bound(count);
  uint8_t* to = encode_lanes(symbols + body, rest, body % columns.width(), columns, states, end, &absent);
  to = encoder_of(isa)(symbols, groups, 0, columns, states, to, &absent);
  *bytes = 0;
  if ((absent & RansTable::kAbsent) != 0) return false;
  const size_t lanes = groups > 0 ? kRansLanes : rest;
  for (size_t lane = 0; lane < lanes; lane++) {
    store16(out + 4 * lane, states[lane]);
    store16(out + 4 * lane + 2, states[lane] >> 16);
  }
  memmove(out + 4 * lanes, to, size_t(end - to));
  *bytes = 4 * lanes + size_t(end - to);
  return true;
}

bool rans_decode(const uint8_t* in, size_t bytes, uint8_t* symbols, size_t rows, const RansColumns& columns, Isa isa) {
  const size_t count = rows * columns.width(), groups = count / kRansLanes, rest = count % kRansLanes, body = count - rest;
  const size_t lanes = groups > 0 ? kRansLanes : rest;
  if (bytes < 4 * lanes) return false;
  uint32_t states[kRansLanes];
  for (size_t lane = 0; lane < kRansLanes; lane++) {
    states[lane] = kRansLow;
    if (lane >= lanes) continue;
    const uint8_t* from = in + 4 * lane;
    states[lane] = uint32_t(from[0]) | uint32_t(from[1]) << 8 | uint32_t(from[2]) << 16 | uint32_t(from[3]) << 24;
    if (states[lane] < kRansLow || states[lane] > 0x7fffffff) return false;
  }
  const uint8_t *at = in + 4 * lanes, *end = in + bytes;
  if (groups > 0 && !decode_groups(&at, end, symbols, groups, columns, states, isa)) return false;
  if (!decode_lanes(&at, end, symbols + body, rest, body % columns.width(), columns, states)) return false;
  for (const uint32_t state : states) {
    if (state != kRansLow) return false;
  }
  return at == end;
}

}  // namespace kvferry::codec
