#include "exponent.h"

#include "planes.h"

namespace kvferry::codec {

size_t exponent_encode(const uint8_t* values, size_t count, uint8_t* out, Scratch& scratch, Isa isa) {
  if (count == 0) return 0;
  uint8_t* symbols = scratch.need(count);
  split_middle(values, count, symbols, out, isa);
  uint32_t counts[kRansSymbols] = {};
  count_bytes(symbols, count, counts);
  RansTable table;
  RansTable::fit(counts, kRansSymbols, &table);
  const size_t front = count + write_table(table, out + count);
  size_t bytes;
  // Every symbol has been counted, so none is without a probability.
  rans_encode(symbols, count, RansColumns(table), out + front, &bytes, isa);
  return front + bytes;
}

bool exponent_decode(const uint8_t* in, size_t bytes, uint8_t* values, size_t count, Scratch& scratch, Isa isa) {
  if (count == 0) return bytes == 0;
  if (bytes < count) return false;
  RansTable table;
  const size_t table_bytes = read_table(in + count, bytes - count, &table);
  if (table_bytes == 0) return false;
  const size_t front = count + table_bytes;
  uint8_t* symbols = scratch.need(count);
  if (!rans_decode(in + front, bytes - front, symbols, count, RansColumns(table), isa)) return false;
  join_middle(symbols, in, count, values, isa);
  return true;
}

}  // namespace kvferry::codec
