// Range coding (rANS) of bytes with static tables. 32 states are interleaved: symbol i belongs to state i mod 32, so that vectors
// encode and decode side by side. A state has 31 bits and gives or takes 16 at a time; probabilities have 12 bits.
//
// The stream, little-endian: a state of 4 bytes for each of the first min(32, symbols) symbols, then words of 2 bytes in the order in
// which a decoder that goes from the first symbol to the last takes them. A stream that decodes is the only one of its symbols: states
// begin in [2^15, 2^31), end at 2^15, and no byte is left.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "isa.h"

namespace kvferry::codec {

constexpr uint32_t kRansTotal = 4096;
constexpr size_t kRansLanes = 32;
constexpr uint32_t kRansSymbols = 256;

// Probabilities of up to 256 symbols, in 4096ths. Big (17 KiB): made once, kept.
struct alignas(64) RansTable {
  // `frequencies` of the first `symbols` symbols; false unless they sum to 4096.
  static bool make(const uint16_t* frequencies, uint32_t symbols, RansTable* table);
  // What was counted, brought to a sum of 4096 with none of a counted symbol 0; false if nothing was counted. Integers only: the same
  // on every machine.
  static bool fit(const uint32_t* counts, uint32_t symbols, RansTable* table);
  // 0: the symbol cannot be encoded.
  uint32_t frequency(uint32_t symbol) const { return encode[symbol] == kAbsent ? 0 : (encode[symbol] & 0xfff) + 1; }

  static constexpr uint32_t kAbsent = 0x80000000;
  uint32_t encode[kRansSymbols];  // frequency - 1 in bits 0..11, start in 12..23
  uint32_t decode[kRansTotal];    // symbol in bits 0..7, frequency - 1 in 8..19, place within the symbol in 20..31
};

// A table as it travels: first and last symbol with a probability, then each frequency but the last (1 byte below 128, else 2); 0 and
// a count for a run without any.
constexpr size_t kRansTableBytesMax = 2 + 2 * kRansSymbols;
size_t write_table(const RansTable& table, uint8_t* out);
// Bytes that the table takes; 0 if it is none, or not written as write_table does.
size_t read_table(const uint8_t* in, size_t bytes, RansTable* table);

// Which table each column of a matrix uses. The tables must outlive it.
class RansColumns {
 public:
  RansColumns() = default;
  // One table for all.
  explicit RansColumns(const RansTable& table);
  // Column c uses tables[table_of[c]]; false if the width is 0 or names a table that is not there.
  static bool make(const RansTable* tables, size_t table_count, const uint8_t* table_of, size_t width, RansColumns* columns);
  size_t width() const { return width_; }
  const uint32_t* encode_base() const { return tables_->encode; }
  const uint32_t* decode_base() const { return tables_->decode; }
  // Where the tables of columns c, c + 1, ... c + 31 (round and round) begin, in words of 4 bytes from the base.
  const uint32_t* offsets(size_t column) const { return offsets_.data() + column; }

 private:
  const RansTable* tables_ = nullptr;
  size_t width_ = 0;
  std::vector<uint32_t> offsets_;
};

// Bytes that `out` must have; no stream is longer, most are far shorter.
constexpr size_t rans_bound(size_t symbols) { return 4 * kRansLanes + 2 * symbols; }
// A matrix of `rows` of columns.width() symbols, row by row. False: a symbol has no probability in its table.
bool rans_encode(const uint8_t* symbols, size_t rows, const RansColumns& columns, uint8_t* out, size_t* bytes, Isa isa = best_isa());
// False: not a stream of that many symbols. Reads nothing outside `in`, writes nothing outside `symbols`, whatever the bytes are.
bool rans_decode(const uint8_t* in, size_t bytes, uint8_t* symbols, size_t rows, const RansColumns& columns, Isa isa = best_isa());

// Tables of a Gaussian that is cut into steps: table k is for a deviation of 2^((k - kGaussianUnit) / 4) steps. A code q travels as
// symbol zigzag(q) (0, -1, 1, -2, ... are 0, 1, 2, 3, ...) where that is below gaussian_symbols(k), and otherwise as kEscape, with its
// value elsewhere. Integers only: the same on every machine.
constexpr size_t kGaussianTables = 41;
constexpr size_t kGaussianUnit = 12;
constexpr uint8_t kEscape = 255;
const RansTable* gaussian_tables();
uint32_t gaussian_symbols(size_t table);

}  // namespace kvferry::codec
