#include "rans_fit.h"

namespace kvferry::codec {

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
  uint16_t frequencies[kRansSymbols];
  return symbols <= kRansSymbols && fit_frequencies(counts, symbols, frequencies) && make(frequencies, symbols, table);
}

size_t write_table(const RansTable& table, uint8_t* out) {
  uint16_t frequencies[kRansSymbols];
  for (uint32_t symbol = 0; symbol < kRansSymbols; symbol++) frequencies[symbol] = uint16_t(table.frequency(symbol));
  return write_frequencies(frequencies, out);
}

size_t read_table(const uint8_t* in, size_t bytes, RansTable* table) {
  uint16_t frequencies[kRansSymbols];
  const size_t read = read_frequencies(in, bytes, frequencies);
  return read != 0 && RansTable::make(frequencies, kRansSymbols, table) ? read : 0;
}

}  // namespace kvferry::codec
