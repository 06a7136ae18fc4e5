// rANS, a warp for each tile: the format interleaves 32 states, and each thread has one. What a warp decides together (how many words a group gives or
// takes, where each lies) are ballots. schemas/codec.md and native/codec/rans.h describe the stream.
#pragma once
#include "../codec/rans_kernels.h"
#include "tile.h"

namespace kvferry::cuda {

using codec::kEscape;
using codec::kRansLow;
using codec::kRansSymbols;
using codec::kRansTotal;

// Smaller than native/codec's tables, so that all of a codec stay in a first cache: the symbol of each slot, and for each symbol what RansTable::encode says.
struct RansTables {
  const uint8_t* slots;     // kRansTotal of each table
  const uint32_t* entries;  // kRansSymbols of each table
  const uint8_t* table_of;  // each column's
  uint32_t width;
};

struct RansArguments {
  const Tile* tiles;
  TileState* states;
  RansTables tables;
  uint32_t width;           // of a row of codes
  uint64_t room;            // of a block
};

KVFERRY_DEVICE uint32_t word_at(const uint8_t* at) { return is_aligned(at, 2) ? take<uint16_t>(at) : at[0] | uint32_t(at[1]) << 8; }
KVFERRY_DEVICE void put_word(uint8_t* at, uint32_t word) {
  if (is_aligned(at, 2)) return put(at, uint16_t(word));
  at[0] = uint8_t(word);
  at[1] = uint8_t(word >> 8);
}
KVFERRY_DEVICE uint32_t below(uint32_t mask, uint32_t thread) { return bits_set(mask & ((1u << thread) - 1)); }

// Bytes that lie at `from` to `to`, which is not behind it.
template <typename Block>
KVFERRY_DEVICE void move_down(Block& block, const uint8_t* from, uint8_t* to, size_t bytes) {
  if (from == to) return;
  typename Block::template Each<uint32_t> words;
  for (size_t at = 0; at < bytes; at += 2 * kWarp) {
    block.phase([&](uint32_t thread) { words[thread] = at + 2 * thread < bytes ? word_at(from + at + 2 * thread) : 0; });
    block.each([&](uint32_t thread) {
      if (at + 2 * thread < bytes) put_word(to + at + 2 * thread, words[thread]);
    });
  }
}

// Of `count` symbols to `to`, whose room ends at `end`. Bytes, or 0: a symbol has no probability.
template <typename Block>
KVFERRY_DEVICE size_t rans_encode_stream(Block& block, const RansTables& tables, const uint8_t* symbols, size_t count, uint8_t* to,
                                         uint8_t* end) {
  typename Block::template Each<uint32_t> states, columns, words;
  typename Block::template Each<bool> gives, absent;
  const uint32_t step = kWarp % tables.width, lanes = count < kWarp ? uint32_t(count) : kWarp;
  size_t group = (count + kWarp - 1) / kWarp;
  block.each([&](uint32_t thread) {
    states[thread] = kRansLow;
    columns[thread] = uint32_t((group * kWarp + thread) % tables.width);
    absent[thread] = false;
  });
  uint8_t* at = end;
  while (group-- > 0) {
    block.each([&](uint32_t thread) {
      columns[thread] = columns[thread] >= step ? columns[thread] - step : columns[thread] + tables.width - step;
      gives[thread] = false;
      const size_t place = group * kWarp + thread;
      if (place >= count) return;
      const uint32_t entry = tables.entries[tables.table_of[columns[thread]] * kRansSymbols + symbols[place]];
      const uint32_t frequency = (entry & 0xfff) + 1, start = (entry >> 12) & 0xfff;
      absent[thread] = absent[thread] || (entry & codec::RansTable::kAbsent) != 0;
      uint32_t state = states[thread];
      if (state >= frequency << 19) {
        gives[thread] = true;
        words[thread] = state;
        state >>= 16;
      }
      states[thread] = ((state / frequency) << 12) + state % frequency + start;
    });
    const uint32_t mask = block.ballot(gives);
    at -= 2 * bits_set(mask);
    block.each([&](uint32_t thread) {
      if (gives[thread]) put_word(at + 2 * below(mask, thread), words[thread]);
    });
  }
  if (block.ballot(absent) != 0) return 0;
  block.phase([&](uint32_t thread) {
    if (thread >= lanes) return;
    put_word(to + 4 * thread, states[thread]);
    put_word(to + 4 * thread + 2, states[thread] >> 16);
  });
  move_down(block, at, to + 4 * lanes, size_t(end - at));
  return 4 * lanes + size_t(end - at);
}

// False: no stream of that many symbols. `escapes` gets the places of those that say so, in order, `room` at most; nullptr: nobody asks.
template <typename Block>
KVFERRY_DEVICE bool rans_decode_stream(Block& block, const RansTables& tables, const uint8_t* in, size_t bytes, uint8_t* symbols,
                                       size_t count, uint32_t* escapes, uint32_t room, uint32_t* escape_count) {
  typename Block::template Each<uint32_t> states, columns, window, words;
  typename Block::template Each<bool> flags, escaped;
  const uint32_t step = kWarp % tables.width, lanes = count < kWarp ? uint32_t(count) : kWarp;
  if (bytes < 4 * lanes || (bytes & 1) != 0) return false;
  const uint8_t* at = in + 4 * lanes;
  size_t left = (bytes - 4 * lanes) / 2;  // words
  block.each([&](uint32_t thread) {
    states[thread] = kRansLow;
    if (thread < lanes) states[thread] = word_at(in + 4 * thread) | word_at(in + 4 * thread + 2) << 16;
    flags[thread] = states[thread] < kRansLow || states[thread] > 0x7fffffff;
    columns[thread] = thread % tables.width;
    window[thread] = thread < left ? word_at(at + 2 * thread) : 0;
  });
  if (block.ballot(flags) != 0) return false;
  uint32_t found = 0;
  for (size_t group = 0; group * kWarp < count; group++) {
    block.each([&](uint32_t thread) {
      flags[thread] = escaped[thread] = false;
      const size_t place = group * kWarp + thread;
      if (place >= count) return;
      const uint32_t table = tables.table_of[columns[thread]], slot = states[thread] & 0xfff;
      const uint32_t symbol = tables.slots[table * kRansTotal + slot], entry = tables.entries[table * kRansSymbols + symbol];
      symbols[place] = uint8_t(symbol);
      escaped[thread] = symbol == kEscape;
      states[thread] = (states[thread] >> 12) * ((entry & 0xfff) + 1) + slot - ((entry >> 12) & 0xfff);
      flags[thread] = states[thread] < kRansLow;
      columns[thread] = columns[thread] + step >= tables.width ? columns[thread] + step - tables.width : columns[thread] + step;
    });
    const uint32_t mask = block.ballot(flags), taken = bits_set(mask);
    if (taken > left) return false;
    block.fetch(window, [&](uint32_t thread) { return below(mask, thread); }, words);
    at += 2 * taken;
    left -= taken;
    // Asked for now, so that they are there for the next group.
    block.each([&](uint32_t thread) {
      if (flags[thread]) states[thread] = states[thread] << 16 | words[thread];
      window[thread] = thread < left ? word_at(at + 2 * thread) : 0;
    });
    if (escapes == nullptr) continue;
    const uint32_t marked = block.ballot(escaped);
    block.each([&](uint32_t thread) {
      const uint32_t index = found + below(marked, thread);
      if (escaped[thread] && index < room) escapes[2 * index] = uint32_t(group * kWarp + thread);
    });
    found += bits_set(marked);
  }
  block.each([&](uint32_t thread) { flags[thread] = states[thread] != kRansLow; });
  if (escapes != nullptr) *escape_count = found;
  return block.ballot(flags) == 0 && left == 0;
}

template <typename Block>
KVFERRY_DEVICE void rans_encode(Block& block, const RansArguments& a) {
  const Tile tile = a.tiles[block.x()];
  TileState* state = a.states + block.x();
  const size_t count = size_t(tile.coded) * a.width;
  if (count == 0 || state->wrong != 0) return;
  const size_t bytes = rans_encode_stream(block, a.tables, tile.codes, count, tile.stream, tile.block + a.room);
  block.each([&](uint32_t thread) {
    if (thread != 0) return;
    state->stream_bytes = uint32_t(bytes);
    if (bytes == 0) state->wrong |= kIncompressible;
  });
}

template <typename Block>
KVFERRY_DEVICE void rans_decode(Block& block, const RansArguments& a) {
  const Tile tile = a.tiles[block.x()];
  TileState* state = a.states + block.x();
  const size_t count = size_t(tile.coded) * a.width;
  if (count == 0) return;
  uint32_t escapes = 0;
  const bool decodes = rans_decode_stream(block, a.tables, tile.stream, tile.stream_bytes, tile.codes, count, tile.escapes, tile.room, &escapes);
  block.each([&](uint32_t thread) {
    if (thread != 0) return;
    state->escapes = escapes;
    if (!decodes) state->wrong |= kHarmed;
  });
}

}  // namespace kvferry::cuda
