// Lossless: what native/codec/exponent.h describes, from the halves that row_encode made. A block for each tile finds which columns share a table, as
// native/codec does; then a warp for each makes the stream.
#pragma once
#include "../codec/exponent.h"
#include "../codec/rans_fit.h"
#include "rans_kernel.h"

namespace kvferry::cuda {

constexpr uint32_t kFrontThreads = 256;
constexpr uint32_t kClasses = uint32_t(codec::kExponentTables);
constexpr uint32_t kSampledRows = 64, kClassedValues = 8192;

// What a tile's stream is coded by, in work memory; the columns' tables follow.
struct ExponentTables {
  uint32_t entries[kClasses * kRansSymbols];
};

struct ExponentArguments {
  const Tile* tiles;
  TileState* states;
  uint32_t width;
  uint64_t room;         // of a block
  uint8_t* tables;       // while encoding: ExponentTables and columns of each tile
  uint64_t tables_bytes;  // of one tile
};

// Shared memory of exponent_front: counts, frequencies, then a number for each column.
struct FrontMemory {
  uint32_t counts[(kClasses + 1) * kRansSymbols];
  uint16_t frequencies[(kClasses + 1) * kRansSymbols];
  uint32_t numbers[kFrontThreads + 1];
  uint32_t number_of[kClasses + 1];
  uint64_t bits[kClasses + 1];
  uint32_t tables, front;
};

// And of exponent_decode.
struct DecodeMemory {
  uint32_t entries[kClasses * kRansSymbols];
  uint16_t frequencies[kClasses * kRansSymbols];
  uint8_t slots[kClasses * kRansTotal];
  uint32_t tables, front;
};

// How many columns have a sum of at most `most`; in all threads.
template <typename Block>
KVFERRY_DEVICE uint32_t count_up_to(Block& block, const uint32_t* sums, uint32_t width, uint32_t most, FrontMemory* memory) {
  block.phase([&](uint32_t thread) {
    uint32_t count = 0;
    for (uint32_t column = thread; column < width; column += Block::threads) count += sums[column] <= most ? 1 : 0;
    memory->numbers[thread] = count;
  });
  block.phase([&](uint32_t thread) {
    if (thread != 0) return;
    for (uint32_t at = 1; at < Block::threads; at++) memory->numbers[0] += memory->numbers[at];
    memory->numbers[Block::threads] = memory->numbers[0];
  });
  return memory->numbers[Block::threads];
}

// The sum that would stand at `place` if they were sorted.
template <typename Block>
KVFERRY_DEVICE uint32_t ranked(Block& block, const uint32_t* sums, uint32_t width, uint32_t place, FrontMemory* memory) {
  uint32_t low = 0, high = kSampledRows * 2 * 255;
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    if (count_up_to(block, sums, width, middle, memory) > place) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

// A class for each column, by the sum of some of its symbols, as native/codec/exponent.cpp finds it.
template <typename Block>
KVFERRY_DEVICE void classify(Block& block, const Tile& tile, uint32_t width, uint32_t* sums, uint8_t* classes, FrontMemory* memory) {
  const uint32_t stride = tile.coded / kSampledRows > 1 ? tile.coded / kSampledRows : 1;
  block.phase([&](uint32_t thread) {
    for (uint32_t column = thread; column < width; column += Block::threads) {
      uint32_t sum = 0;
      for (uint32_t row = 0; row < tile.coded; row += stride) sum += tile.codes[size_t(row) * width + column];
      sums[column] = sum;
    }
  });
  const uint64_t low = ranked(block, sums, width, width / 8, memory);
  const uint64_t span = ranked(block, sums, width, uint32_t(uint64_t(width) * 7 / 8), memory) - low + 1;
  block.phase([&](uint32_t thread) {
    for (uint32_t column = thread; column < width; column += Block::threads) {
      const uint64_t step = sums[column] < low ? 0 : 1 + (sums[column] - low) * (kClasses - 2) / span;
      classes[column] = uint8_t(step < kClasses - 1 ? step : kClasses - 1);
    }
  });
}

// Tables of the classes and one of all (the last), by a thread for each; what each costs.
template <typename Block>
KVFERRY_DEVICE void fit_tables(Block& block, FrontMemory* memory) {
  block.phase([&](uint32_t thread) {
    if (thread > kClasses) return;
    const uint32_t* counts = memory->counts + thread * kRansSymbols;
    uint16_t* frequencies = memory->frequencies + thread * kRansSymbols;
    uint8_t written[codec::kRansTableBytesMax];
    memory->bits[thread] = 0;
    if (!codec::fit_frequencies(counts, kRansSymbols, frequencies)) return;
    uint64_t sum = 0;
    for (uint32_t symbol = 0; symbol < kRansSymbols; symbol++) {
      if (counts[symbol] != 0) sum += uint64_t(counts[symbol]) * codec::cost_of(frequencies[symbol]);
    }
    memory->bits[thread] = (sum >> 16) + 8 * codec::write_frequencies(frequencies, written);
  });
}

// Several tables or one, whichever is shorter; numbers them, and writes what stands in front of the stream.
KVFERRY_DEVICE void write_front(const Tile& tile, uint32_t width, bool is_classed, const uint8_t* classes, FrontMemory* memory) {
  uint32_t number = 0;
  uint64_t bits = 8 * uint64_t(width);
  for (uint32_t at = 0; at < kClasses && is_classed; at++) {
    // A class without a column has no table.
    memory->number_of[at] = number;
    number += memory->bits[at] != 0 ? 1 : 0;
    bits += memory->bits[at];
  }
  memory->tables = number > 1 && bits < memory->bits[kClasses] ? number : 1;
  uint8_t* const first = tile.stream + size_t(tile.coded) * width;
  uint8_t* to = first;
  *to++ = uint8_t(memory->tables - 1);
  if (memory->tables == 1) {
    to += codec::write_frequencies(memory->frequencies + kClasses * kRansSymbols, to);
  } else {
    for (uint32_t column = 0; column < width; column++) *to++ = uint8_t(memory->number_of[classes[column]]);
    for (uint32_t at = 0; at < kClasses; at++) {
      if (memory->bits[at] != 0) to += codec::write_frequencies(memory->frequencies + at * kRansSymbols, to);
    }
  }
  memory->front = uint32_t(to - first);
}

KVFERRY_DEVICE void make_entries(const uint16_t* frequencies, uint32_t* entries) {
  uint32_t start = 0;
  for (uint32_t symbol = 0; symbol < kRansSymbols; symbol++) {
    const uint32_t frequency = frequencies[symbol];
    entries[symbol] = frequency == 0 ? codec::RansTable::kAbsent : (frequency - 1) | start << 12;
    start += frequency;
  }
}

template <typename Block>
KVFERRY_DEVICE void exponent_front(Block& block, const ExponentArguments& a) {
  const Tile tile = a.tiles[block.x()];
  if (tile.coded == 0) return;
  FrontMemory* memory = block.template shared<FrontMemory>();
  uint32_t* sums = reinterpret_cast<uint32_t*>(memory + 1);
  ExponentTables* tables = reinterpret_cast<ExponentTables*>(a.tables + block.x() * a.tables_bytes);
  uint8_t* classes = reinterpret_cast<uint8_t*>(tables + 1);
  const size_t count = size_t(tile.coded) * a.width;
  const bool is_classed = a.width > 1 && count >= kClassedValues;
  block.phase([&](uint32_t thread) {
    for (uint32_t at = thread; at < (kClasses + 1) * kRansSymbols; at += Block::threads) memory->counts[at] = 0;
    for (uint32_t column = thread; column < a.width; column += Block::threads) classes[column] = 0;
  });
  if (is_classed) classify(block, tile, a.width, sums, classes, memory);
  block.phase([&](uint32_t thread) {
    uint32_t column = thread % a.width;
    for (size_t at = thread; at < count; at += Block::threads) {
      const uint32_t symbol = tile.codes[at];
      atomic_add(memory->counts + classes[column] * kRansSymbols + symbol, 1);
      column = uint32_t((column + Block::threads) % a.width);
    }
  });
  block.phase([&](uint32_t thread) {
    for (uint32_t symbol = thread; symbol < kRansSymbols; symbol += Block::threads) {
      uint32_t sum = 0;
      for (uint32_t at = 0; at < kClasses; at++) sum += memory->counts[at * kRansSymbols + symbol];
      memory->counts[kClasses * kRansSymbols + symbol] = sum;
    }
  });
  fit_tables(block, memory);
  block.phase([&](uint32_t thread) {
    if (thread == 0) write_front(tile, a.width, is_classed, classes, memory);
  });
  const bool is_one = memory->tables == 1;
  block.phase([&](uint32_t thread) {
    for (uint32_t at = thread; at < kClasses; at += Block::threads) {
      if (is_one ? at == 0 : memory->bits[at] != 0) {
        const uint32_t from = is_one ? kClasses : at;
        make_entries(memory->frequencies + from * kRansSymbols, tables->entries + (is_one ? 0 : memory->number_of[at]) * kRansSymbols);
      }
    }
    for (uint32_t column = thread; column < a.width; column += Block::threads) {
      classes[column] = uint8_t(is_one ? 0 : memory->number_of[classes[column]]);
    }
    if (thread == 0) a.states[block.x()].stream_bytes = uint32_t(count + memory->front);
  });
}

template <typename Block>
KVFERRY_DEVICE void exponent_encode(Block& block, const ExponentArguments& a) {
  const Tile tile = a.tiles[block.x()];
  TileState* state = a.states + block.x();
  if (tile.coded == 0) return;
  const ExponentTables* made = reinterpret_cast<const ExponentTables*>(a.tables + block.x() * a.tables_bytes);
  const RansTables tables = {nullptr, made->entries, reinterpret_cast<const uint8_t*>(made + 1), a.width};
  const size_t front = state->stream_bytes, count = size_t(tile.coded) * a.width;
  const size_t bytes = rans_encode_stream(block, tables, tile.codes, count, tile.stream + front, tile.codes + codec::rans_bound(count));
  block.phase([&](uint32_t thread) {
    if (thread == 0) state->stream_bytes = uint32_t(front + bytes);
  });
}

// As write_front wrote it. False: it did not.
KVFERRY_DEVICE bool read_front(const uint8_t* in, size_t bytes, uint32_t width, DecodeMemory* memory) {
  if (bytes == 0 || in[0] >= kClasses) return false;
  memory->tables = in[0] + 1u;
  size_t at = 1;
  if (memory->tables > 1) {
    if (bytes - at < width) return false;
    for (uint32_t column = 0; column < width; column++) {
      if (in[at + column] >= memory->tables) return false;
    }
    at += width;
  }
  for (uint32_t table = 0; table < memory->tables; table++) {
    const size_t read = codec::read_frequencies(in + at, bytes - at, memory->frequencies + table * kRansSymbols);
    if (read == 0) return false;
    at += read;
  }
  memory->front = uint32_t(at);
  return true;
}

template <typename Block>
KVFERRY_DEVICE void exponent_decode(Block& block, const ExponentArguments& a) {
  const Tile tile = a.tiles[block.x()];
  TileState* state = a.states + block.x();
  if (tile.coded == 0) return;
  DecodeMemory* memory = block.template shared<DecodeMemory>();
  const size_t count = size_t(tile.coded) * a.width;
  block.phase([&](uint32_t thread) {
    if (thread != 0) return;
    const bool is_right = tile.stream_bytes >= count && read_front(tile.stream + count, tile.stream_bytes - count, a.width, memory);
    if (!is_right) memory->tables = 0;
  });
  const uint32_t count_of_tables = memory->tables;
  bool decodes = count_of_tables != 0;
  if (decodes) {
    block.phase([&](uint32_t thread) {
      if (thread < count_of_tables) make_entries(memory->frequencies + thread * kRansSymbols, memory->entries + thread * kRansSymbols);
    });
    block.phase([&](uint32_t thread) {
      for (uint32_t at = thread; at < count_of_tables * kRansSymbols; at += Block::threads) {
        const uint32_t entry = memory->entries[at];
        if ((entry & codec::RansTable::kAbsent) != 0) continue;
        uint8_t* slots = memory->slots + at / kRansSymbols * kRansTotal + ((entry >> 12) & 0xfff);
        for (uint32_t place = 0; place <= (entry & 0xfff); place++) slots[place] = uint8_t(at % kRansSymbols);
      }
    });
    const uint8_t* front = tile.stream + count;
    // One table: a single column that uses the first.
    const uint8_t* table_of = count_of_tables > 1 ? front + 1 : front;
    const RansTables tables = {memory->slots, memory->entries, table_of, count_of_tables > 1 ? a.width : 1};
    decodes = rans_decode_stream(block, tables, front + memory->front, tile.stream_bytes - count - memory->front, tile.codes, count, nullptr, 0, nullptr);
  }
  block.each([&](uint32_t thread) {
    if (thread == 0 && !decodes) state->wrong |= kHarmed;
  });
}

}  // namespace kvferry::cuda
