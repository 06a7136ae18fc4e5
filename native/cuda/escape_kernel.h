// Escapes of a tile, a block for each: from the order in which threads met them to bytes in order of rows and columns, and back; and the block's header.
#pragma once
#include "../codec/block.h"
#include "tile.h"

namespace kvferry::cuda {

constexpr uint32_t kEscapeThreads = 128;

struct EscapeArguments {
  const Tile* tiles;
  TileState* states;
  uint32_t row_bytes;
};

struct SealArguments {
  const Tile* tiles;
  TileState* states;
  uint32_t count;
  uint32_t row_bytes;
  uint64_t spec;
};

// Of a coded block: what is in front of its stream, header aside.
KVFERRY_DEVICE size_t front_bytes(const Tile& tile) { return size_t(tile.stream - tile.block) - codec::kHeaderBytes; }

KVFERRY_DEVICE uint32_t varint_bytes(uint32_t number) {
  uint32_t bytes = 1;
  for (; number >= 128; number >>= 7) bytes++;
  return bytes;
}

// Before each thread's number, the sum of those of the threads before it; the sum of all behind the last.
template <typename Block>
KVFERRY_DEVICE void sum_up(Block& block, uint32_t* numbers) {
  block.phase([&](uint32_t thread) {
    if (thread != 0) return;
    uint32_t sum = 0;
    for (uint32_t at = 0; at <= Block::threads; at++) {
      const uint32_t own = numbers[at];
      numbers[at] = sum;
      sum += own;
    }
  });
}

// Ascending by place, bitonic; what is behind `count` up to a power of two is filled.
template <typename Block>
KVFERRY_DEVICE void sort_escapes(Block& block, uint32_t* escapes, uint32_t count) {
  uint32_t size = 1;
  while (size < count) size *= 2;
  block.phase([&](uint32_t thread) {
    for (uint32_t at = count + thread; at < size; at += Block::threads) escapes[2 * at] = UINT32_MAX;
  });
  for (uint32_t run = 2; run <= size; run *= 2) {
    for (uint32_t apart = run / 2; apart > 0; apart /= 2) {
      block.phase([&](uint32_t thread) {
        for (uint32_t at = thread; at < size; at += Block::threads) {
          const uint32_t other = at ^ apart;
          if (other < at) continue;
          const bool is_up = (at & run) == 0, is_above = escapes[2 * at] > escapes[2 * other];
          if (is_up != is_above) continue;
          for (uint32_t half = 0; half < 2; half++) {
            const uint32_t kept = escapes[2 * at + half];
            escapes[2 * at + half] = escapes[2 * other + half];
            escapes[2 * other + half] = kept;
          }
        }
      });
    }
  }
}

template <typename Block>
KVFERRY_DEVICE void escapes_encode(Block& block, const EscapeArguments& a) {
  const Tile tile = a.tiles[block.x()];
  TileState* state = a.states + block.x();
  const uint32_t count = state->escapes;
  if (state->wrong != 0 || count == 0) return;
  uint32_t* sums = block.template shared<uint32_t>();
  sort_escapes(block, tile.escapes, count);
  const uint32_t share = divided_up(count, Block::threads);
  const auto each_of = [&](uint32_t thread, auto body) {
    for (uint32_t at = thread * share; at < (thread + 1) * share && at < count; at++) body(tile.escapes[2 * at + 1]);
  };
  block.phase([&](uint32_t thread) {
    sums[thread] = 0;
    if (thread == 0) sums[Block::threads] = 0;
    each_of(thread, [&](uint32_t value) { sums[thread] += varint_bytes(value); });
  });
  sum_up(block, sums);
  const uint32_t side = sums[Block::threads];
  const bool is_shorter = front_bytes(tile) + state->stream_bytes + side < size_t(a.row_bytes) * tile.tokens;
  block.phase([&](uint32_t thread) {
    uint8_t* to = tile.stream + state->stream_bytes + sums[thread];
    each_of(thread, [&](uint32_t value) {
      for (; value >= 128 && is_shorter; value >>= 7) *to++ = uint8_t(value | 128);
      if (is_shorter) *to++ = uint8_t(value);
    });
  });
  block.each([&](uint32_t thread) {
    if (thread != 0) return;
    state->side_bytes = side;
    if (!is_shorter) state->wrong |= kIncompressible;
  });
}

// Of the number whose last byte is at `last`, none of whose bytes is in front of `first`. False: it is longer than need be, or than 32 bits.
KVFERRY_DEVICE bool varint_before(const uint8_t* first, const uint8_t* last, uint32_t* number) {
  const uint8_t* at = last;
  while (at > first && at[-1] >= 128 && last - at < 5) at--;
  const uint32_t bytes = uint32_t(last - at) + 1;
  *number = 0;
  for (uint32_t byte = 0; byte < bytes && byte < 5; byte++) *number |= uint32_t(at[byte] & 127) << (7 * byte);
  return bytes == 1 || (bytes < 5 && *last != 0) || (bytes == 5 && *last != 0 && *last < 16);
}

// The values of escapes whose places are there.
template <typename Block>
KVFERRY_DEVICE void escapes_decode(Block& block, const EscapeArguments& a) {
  const Tile tile = a.tiles[block.x()];
  TileState* state = a.states + block.x();
  if (tile.side_bytes == 0 && state->escapes == 0) return;
  uint32_t* sums = block.template shared<uint32_t>();
  const uint8_t* side = tile.stream + tile.stream_bytes;
  const uint32_t share = divided_up(tile.side_bytes, Block::threads);
  const auto each_end = [&](uint32_t thread, auto body) {
    for (uint32_t at = thread * share; at < (thread + 1) * share && at < tile.side_bytes; at++) {
      if (side[at] < 128) body(at);
    }
  };
  block.phase([&](uint32_t thread) {
    sums[thread] = 0;
    if (thread == 0) sums[Block::threads] = 0;
    each_end(thread, [&](uint32_t) { sums[thread]++; });
  });
  sum_up(block, sums);
  const bool is_whole = tile.side_bytes > 0 && side[tile.side_bytes - 1] < 128 && sums[Block::threads] == state->escapes;
  block.phase([&](uint32_t thread) {
    if (!is_whole) {
      if (thread == 0) atomic_or(&state->wrong, kHarmed);
      return;
    }
    uint32_t index = sums[thread];
    each_end(thread, [&](uint32_t at) {
      uint32_t value;
      if (!varint_before(side, side + at, &value)) atomic_or(&state->wrong, kHarmed);
      if (index < tile.room) tile.escapes[2 * index + 1] = value;
      index++;
    });
  });
}

KVFERRY_DEVICE void put_number(uint8_t* to, uint64_t number, uint32_t bytes) {
  for (uint32_t byte = 0; byte < bytes; byte++) to[byte] = uint8_t(number >> (8 * byte));
}

KVFERRY_DEVICE uint32_t crc32c_of(const uint8_t* bytes, uint32_t count) {
  uint32_t crc = ~0u;
  for (uint32_t at = 0; at < count; at++) {
    crc ^= bytes[at];
    for (uint32_t bit = 0; bit < 8; bit++) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0x82F63B78u : 0u);
  }
  return ~crc;
}

// As codec::write_header writes it; nothing of a block but what is in its tile's state has to be known for it.
template <typename Block>
KVFERRY_DEVICE void seal(Block& block, const SealArguments& a) {
  block.each([&](uint32_t thread) {
    const uint32_t index = block.x() * Block::threads + thread;
    if (index >= a.count) return;
    const Tile& tile = a.tiles[index];
    TileState* state = a.states + index;
    const size_t whole = size_t(a.row_bytes) * tile.tokens;
    size_t payload = front_bytes(tile) + state->stream_bytes + state->side_bytes;
    if (payload >= whole && whole > 0) state->wrong |= kIncompressible;
    const uint32_t wrong = state->wrong;
    if (wrong != 0) payload = whole;
    uint8_t* to = tile.block;
    for (uint32_t at = 0; at < codec::kHeaderBytes; at++) to[at] = 0;
    to[0] = 'K', to[1] = 'V', to[2] = 'F', to[3] = 'B', to[4] = 1;
    to[5] = (wrong & kNotFinite) != 0 ? 2 : (wrong & kOutOfRange) != 0 ? 3 : wrong != 0 ? 1 : 0;
    put_number(to + 8, a.spec, 8);
    put_number(to + 16, tile.tokens, 4);
    put_number(to + 20, tile.position, 4);
    put_number(to + 24, wrong != 0 ? 0 : tile.recent, 4);
    put_number(to + 28, payload, 4);
    put_number(to + 32, wrong != 0 ? 0 : state->side_bytes, 4);
    put_number(to + 44, crc32c_of(to, 44), 4);
  });
}

}  // namespace kvferry::cuda
