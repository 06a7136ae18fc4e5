#include "exponent.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "planes.h"
#include "rans_fit.h"

namespace kvferry::codec {
namespace {

constexpr size_t kClasses = kExponentTables, kSampledRows = 64;
// Fewer values than these do not pay for eight tables.
constexpr size_t kClassedValues = 8192;

using Counts = uint32_t[kRansSymbols];

// What each column uses, by the mean of some of its symbols: the middle six eighths of the columns in six equal steps, what is below
// and above apart.
std::vector<uint8_t> classes_of(const uint8_t* symbols, size_t rows, size_t width) {
  std::vector<uint32_t> sums(width);
  const size_t stride = std::max<size_t>(1, rows / kSampledRows);
  for (size_t row = 0; row < rows; row += stride) {
    for (size_t column = 0; column < width; column++) sums[column] += symbols[row * width + column];
  }
  std::vector<uint32_t> sorted = sums;
  const auto part = [&](size_t eighths) {
    std::nth_element(sorted.begin(), sorted.begin() + ptrdiff_t(width * eighths / 8), sorted.end());
    return uint64_t(sorted[width * eighths / 8]);
  };
  const uint64_t low = part(1), span = part(7) - low + 1;
  std::vector<uint8_t> classes(width);
  for (size_t column = 0; column < width; column++) {
    const uint64_t step = sums[column] < low ? 0 : 1 + (sums[column] - low) * (kClasses - 2) / span;
    classes[column] = uint8_t(std::min<uint64_t>(step, kClasses - 1));
  }
  return classes;
}

// Four sets of counts, because equal neighbours would wait for each other.
void count_classes(const uint8_t* symbols, size_t rows, size_t width, const std::vector<uint8_t>& classes, Counts* counts) {
  constexpr size_t kSets = 4;
  std::vector<uint32_t> sets(kSets * kClasses * kRansSymbols), base(width);
  for (size_t column = 0; column < width; column++) base[column] = uint32_t((column % kSets * kClasses + classes[column]) * kRansSymbols);
  for (size_t row = 0; row < rows; row++, symbols += width) {
    for (size_t column = 0; column < width; column++) sets[base[column] + symbols[column]]++;
  }
  for (size_t at = 0; at < sets.size(); at++) counts[at / kRansSymbols % kClasses][at % kRansSymbols] += sets[at];
}

// What a symbol of each frequency costs, in 2^-16 bits.
const uint32_t* costs() {
  struct Costs {
    uint32_t of[kRansTotal + 1] = {};
    Costs() {
      for (uint32_t frequency = 1; frequency <= kRansTotal; frequency++) of[frequency] = cost_of(frequency);
    }
  };
  static const Costs made;
  return made.of;
}

uint64_t bits_of(const Counts& counts, const RansTable& table) {
  uint64_t sum = 0;
  for (uint32_t symbol = 0; symbol < kRansSymbols; symbol++) sum += uint64_t(counts[symbol]) * costs()[table.frequency(symbol)];
  return sum >> 16;
}

// Writes what stands in front of the stream; returns its end.
uint8_t* write_front(const RansTable* tables, size_t count, const std::vector<uint8_t>& classes, uint8_t* out) {
  *out++ = uint8_t(count - 1);
  if (count > 1) out = std::copy(classes.begin(), classes.end(), out);
  for (size_t at = 0; at < count; at++) out += write_table(tables[at], out);
  return out;
}

// Several tables and their columns, if that is shorter than one; otherwise one, and no columns. `tables` has room for one more than
// there are classes.
size_t choose_tables(const uint8_t* symbols, size_t rows, size_t width, RansTable* tables, std::vector<uint8_t>* classes) {
  Counts all = {}, counts[kClasses] = {};
  const bool classed = width > 1 && rows * width >= kClassedValues;
  if (classed) {
    *classes = classes_of(symbols, rows, width);
    count_classes(symbols, rows, width, *classes, counts);
    for (size_t at = 0; at < kClasses * kRansSymbols; at++) all[at % kRansSymbols] += counts[at / kRansSymbols][at % kRansSymbols];
  } else {
    count_bytes(symbols, rows * width, all);
  }
  RansTable& one = tables[kClasses];
  RansTable::fit(all, kRansSymbols, &one);
  if (classed) {
    uint8_t number_of[kClasses] = {}, front[kRansTableBytesMax];
    size_t number = 0;
    uint64_t bits = 8 * width;
    for (size_t at = 0; at < kClasses; at++) {
      RansTable& table = tables[number];
      // A class without a column has no table.
      if (!RansTable::fit(counts[at], kRansSymbols, &table)) continue;
      number_of[at] = uint8_t(number++);
      bits += bits_of(counts[at], table) + 8 * write_table(table, front);
    }
    for (uint8_t& one_class : *classes) one_class = number_of[one_class];
    if (number > 1 && bits < bits_of(all, one) + 8 * write_table(one, front)) return number;
  }
  tables[0] = one;
  classes->clear();
  return 1;
}

// As write_front wrote it; returns the bytes, or 0.
size_t read_front(const uint8_t* in, size_t bytes, size_t width, RansTable* tables, size_t* count, std::vector<uint8_t>* classes) {
  if (bytes == 0 || in[0] >= kClasses) return 0;
  *count = in[0] + 1u;
  size_t at = 1;
  if (*count > 1) {
    if (bytes - at < width) return 0;
    classes->assign(in + at, in + at + width);
    at += width;
  }
  for (size_t table = 0; table < *count; table++) {
    const size_t table_bytes = read_table(in + at, bytes - at, &tables[table]);
    if (table_bytes == 0) return 0;
    at += table_bytes;
  }
  return at;
}

// False: a column names a table that is not there.
bool make_columns(const RansTable* tables, size_t count, const std::vector<uint8_t>& classes, RansColumns* columns) {
  if (count > 1) return RansColumns::make(tables, count, classes.data(), classes.size(), columns);
  *columns = RansColumns(tables[0]);
  return true;
}

}  // namespace

size_t exponent_encode(const uint8_t* values, size_t rows, size_t width, uint8_t* out, Scratch& scratch, Isa isa) {
  const size_t count = rows * width;
  if (count == 0) return 0;
  uint8_t* symbols = scratch.need(count);
  split_middle(values, count, symbols, out, isa);
  RansTable* tables = scratch.tables(kClasses + 1);
  std::vector<uint8_t> classes;
  RansColumns columns;
  const size_t number = choose_tables(symbols, rows, width, tables, &classes);
  uint8_t* const stream = write_front(tables, number, classes, out + count);
  make_columns(tables, number, classes, &columns);
  size_t bytes;
  // Every symbol has been counted, so none is without a probability.
  rans_encode(symbols, count / columns.width(), columns, stream, &bytes, isa);
  return size_t(stream - out) + bytes;
}

bool exponent_decode(const uint8_t* in, size_t bytes, uint8_t* values, size_t rows, size_t width, Scratch& scratch, Isa isa) {
  const size_t count = rows * width;
  if (count == 0) return bytes == 0;
  if (bytes < count) return false;
  RansTable* tables = scratch.tables(kClasses + 1);
  std::vector<uint8_t> classes;
  RansColumns columns;
  size_t number;
  const size_t front = read_front(in + count, bytes - count, width, tables, &number, &classes);
  if (front == 0 || !make_columns(tables, number, classes, &columns)) return false;
  const uint8_t* stream = in + count + front;
  uint8_t* symbols = scratch.need(count);
  if (!rans_decode(stream, size_t(in + bytes - stream), symbols, count / columns.width(), columns, isa)) return false;
  join_middle(symbols, in, count, values, isa);
  return true;
}

}  // namespace kvferry::codec
