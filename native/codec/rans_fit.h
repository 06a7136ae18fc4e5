// Probabilities of rANS tables: fitted to counts, written and read; the same for CPUs and GPUs. rans.h says what they are.
#pragma once
#include "rans.h"
#include "values.h"

namespace kvferry::codec {

// Ones are given or taken where that costs the fewest bits: a step from f to f + 1 saves about count / (f + 1/2).
KVFERRY_INLINE void settle_frequencies(const uint32_t* counts, uint32_t symbols, int32_t missing, uint16_t* frequencies) {
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
    frequencies[chosen] = uint16_t(frequencies[chosen] + (missing > 0 ? 1 : -1));
  }
}

// Counts to a sum of 4096; false if nothing was counted.
KVFERRY_INLINE bool fit_frequencies(const uint32_t* counts, uint32_t symbols, uint16_t* frequencies) {
  uint64_t total = 0;
  for (uint32_t symbol = 0; symbol < symbols; symbol++) total += counts[symbol];
  if (total == 0) return false;
  int32_t missing = kRansTotal;
  for (uint32_t symbol = 0; symbol < symbols; symbol++) {
    const uint32_t share = uint32_t(uint64_t(counts[symbol]) * kRansTotal / total);
    frequencies[symbol] = uint16_t(share == 0 && counts[symbol] > 0 ? 1 : share);
    missing -= frequencies[symbol];
  }
  settle_frequencies(counts, symbols, missing, frequencies);
  return true;
}

// Of all kRansSymbols; returns the bytes.
KVFERRY_INLINE size_t write_frequencies(const uint16_t* frequencies, uint8_t* out) {
  uint32_t first = 0, last = kRansSymbols - 1;
  while (frequencies[first] == 0) first++;
  while (frequencies[last] == 0) last--;
  uint8_t* to = out;
  *to++ = uint8_t(first);
  *to++ = uint8_t(last);
  for (uint32_t symbol = first; symbol < last;) {
    const uint32_t frequency = frequencies[symbol];
    if (frequency >= 128) *to++ = uint8_t(0x80 | frequency >> 8);
    *to++ = uint8_t(frequency);
    symbol++;
    if (frequency != 0) continue;
    uint32_t run = 1;
    for (; frequencies[symbol] == 0; symbol++) run++;
    *to++ = uint8_t(run);
  }
  return size_t(to - out);
}

// Of all kRansSymbols, which sum to 4096 then; returns the bytes, or 0: it is none, or not written as above.
KVFERRY_INLINE size_t read_frequencies(const uint8_t* in, size_t bytes, uint16_t* frequencies) {
  if (bytes < 2 || in[0] > in[1]) return 0;
  const uint32_t first = in[0], last = in[1];
  for (uint32_t symbol = 0; symbol < kRansSymbols; symbol++) frequencies[symbol] = 0;
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
  return at;
}

// What a symbol of a frequency above 0 costs, in 2^-16 bits; integers only.
KVFERRY_INLINE uint32_t cost_of(uint32_t frequency) {
  uint32_t whole = 0;
  while (frequency >> (whole + 1) != 0) whole++;
  uint32_t log = whole << 16;
  uint64_t mantissa = uint64_t(frequency) << (31 - whole);
  for (uint32_t bit = 1 << 15; bit > 0; bit >>= 1) {
    mantissa = mantissa * mantissa >> 31;
    if (mantissa >> 32 == 0) continue;
    mantissa >>= 1;
    log += bit;
  }
  return (12 << 16) - log;
}

}  // namespace kvferry::codec
