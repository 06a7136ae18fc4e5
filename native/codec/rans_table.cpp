#include <cstring>

#include "rans.h"

namespace kvferry::codec {
namespace {

// Ones are given or taken where that costs the fewest bits: a step from f to f + 1 saves about count / (f + 1/2).
void settle(const uint32_t* counts, uint32_t symbols, int32_t missing, uint32_t* frequencies) {
  for (; missing != 0; missing += missing > 0 ? -1 : 1) {
    uint32_t chosen = kRansSymbols;
    uint64_t chosen_count = 0, chosen_weight = 1;
    for (uint32_t symbol = 0; symbol < symbols; symbol++) {
      const uint32_t frequency = frequencies[symbol];
      if (frequency == 0 || (missing < 0 && frequency == 1)) continue;
      const uint64_t weight = missing > 0 ? 2 * frequency + 1 : 2 * frequency - 1;
      const uint64_t mine = counts[symbol] * chosen_weight, best = chosen_count * weight;
      if (chosen != kRansSymbols && (missing > 0 ? mine <= best : mine >= best)) continue;
      chosen = symbol, chosen_count = counts[symbol], chosen_weight = weight;
    }
    frequencies[chosen] += missing > 0 ? 1 : uint32_t(-1);
  }
}

}  // namespace

bool RansTable::make(const uint16_t* frequencies, uint32_t symbols, RansTable* table) {
  if (symbols > kRansSymbols) return false;
  uint32_t sum = 0;
  for (uint32_t symbol = 0; symbol < symbols; symbol++) sum += frequencies[symbol];
  if (sum != kRansTotal) return false;
  uint32_t start = 0;
  for (uint32_t symbol = 0; symbol < kRansSymbols; symbol++) {
    const uint32_t frequency = symbol < symbols ? frequencies[symbol] : 0;
    table->encode[symbol] = frequency == 0 ? kAbsent : (frequency - 1) | start << 12;
    for (uint32_t place = 0; place < frequency; place++) {
      table->decode[start + place] = symbol | (frequency - 1) << 8 | place << 20;
    }
    start += frequency;
  }
  return true;
}

bool RansTable::fit(const uint32_t* counts, uint32_t symbols, RansTable* table) {
  if (symbols > kRansSymbols) return false;
  uint64_t total = 0;
  for (uint32_t symbol = 0; symbol < symbols; symbol++) total += counts[symbol];
  if (total == 0) return false;
  uint32_t frequencies[kRansSymbols] = {};
  int32_t missing = kRansTotal;
  for (uint32_t symbol = 0; symbol < symbols; symbol++) {
    const uint32_t share = uint32_t(uint64_t(counts[symbol]) * kRansTotal / total);
    frequencies[symbol] = share == 0 && counts[symbol] > 0 ? 1 : share;
    missing -= int32_t(frequencies[symbol]);
  }
  settle(counts, symbols, missing, frequencies);
  uint16_t settled[kRansSymbols];
  for (uint32_t symbol = 0; symbol < symbols; symbol++) settled[symbol] = uint16_t(frequencies[symbol]);
  return make(settled, symbols, table);
}

size_t write_table(const RansTable& table, uint8_t* out) {
  uint32_t first = 0, last = kRansSymbols - 1;
  while (table.frequency(first) == 0) first++;
  while (table.frequency(last) == 0) last--;
  uint8_t* to = out;
  *to++ = uint8_t(first);
  *to++ = uint8_t(last);
  for (uint32_t symbol = first; symbol < last;) {
    const uint32_t frequency = table.frequency(symbol);
    if (frequency >= 128) *to++ = uint8_t(0x80 | frequency >> 8);
    *to++ = uint8_t(frequency);
    symbol++;
    if (frequency != 0) continue;
    uint32_t run = 1;
    for (; table.frequency(symbol) == 0; symbol++) run++;
    *to++ = uint8_t(run);
  }
  return size_t(to - out);
}

size_t read_table(const uint8_t* in, size_t bytes, RansTable* table) {
  if (bytes < 2 || in[0] > in[1]) return 0;
  const uint32_t first = in[0], last = in[1];
  uint16_t frequencies[kRansSymbols] = {};
  uint32_t left = kRansTotal;
  size_t at = 2;
  bool after_run = false;
  for (uint32_t symbol = first; symbol < last;) {
    if (at == bytes) return 0;
    uint32_t frequency = in[at++];
    if (frequency == 0) {
      // The first symbol has a probability, and two runs would be one.
      if (symbol == first || after_run || at == bytes || in[at] == 0 || in[at] > last - symbol) return 0;
      symbol += in[at++];
      after_run = true;
      continue;
    }
    if (frequency >= 128) {
      if (at == bytes) return 0;
      frequency = (frequency & 0x7f) << 8 | in[at++];
      if (frequency < 128) return 0;
    }
    // Something is left for the last.
    if (frequency >= left) return 0;
    left -= frequency;
    frequencies[symbol++] = uint16_t(frequency);
    after_run = false;
  }
  frequencies[last] = uint16_t(left);
  return RansTable::make(frequencies, last + 1, table) ? at : 0;
}

}  // namespace kvferry::codec
