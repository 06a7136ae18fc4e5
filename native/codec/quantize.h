// Floats of rows to codes and back. A quantizer sees its rows in bands; what it makes lies in `Codes`:
//   codes        a byte a value (without a quantizer: an element a value), in segments (below)
//   parameters   16 bits each: ranges of groups, or scales
//   side         what does not fit into a code
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "block.h"
#include "kernels.h"
#include "row_set.h"
#include "spec.h"

namespace kvferry::codec {

// Codes that lie together and are below the same number of levels.
struct Segment {
  size_t count;
  uint32_t levels;
};

struct Codes {
  uint8_t* codes = nullptr;        // of a set, while encoding
  const uint8_t* given = nullptr;  // of a set, while decoding
  uint32_t bits = 8;               // of each code there: below 8 those of a row of a head are whole bytes (Coding::bits_in_place)
  uint16_t* parameters = nullptr;  // of a set
  std::vector<uint16_t> all_parameters;
  std::vector<uint8_t> side;          // while encoding
  const uint8_t* side_at = nullptr;   // while decoding
  const uint8_t* side_end = nullptr;
  std::vector<float> lows, steps;
  std::vector<uint16_t> halves;
  std::vector<uint8_t> unpacked;
};

class Quantization {
 public:
  // `spec` has no problem, and outlives this.
  Quantization(const Spec& spec, Isa isa);
  // How many rows of `rows` to hand over at once: all bands are of that size but the last.
  size_t band(size_t rows) const;
  size_t decoding_band(size_t rows) const;
  size_t code_bytes(size_t rows) const;
  size_t parameter_count(size_t rows) const;
  // Of all sets of so many coded rows.
  std::vector<Segment> segments(size_t rows) const;
  // From a set's codes and parameters to those of the next.
  void pass(const RowSet& set, Codes* codes) const;
  // A band of `count` rows of a set, from its row `first` on. May change `values`.
  Stored encode(float* values, size_t first, size_t count, const RowSet& set, Codes* codes) const;
  // Bands in order. False: nothing that `encode` writes.
  bool decode(Codes* codes, size_t first, size_t count, const RowSet& set, float* values) const;

 private:
  Stored encode_elements(float* values, size_t first, size_t count, Codes* codes) const;
  Stored encode_steps(const float* values, size_t first, size_t count, Codes* codes) const;
  Stored escape(const float* row, const uint8_t* codes, std::vector<uint8_t>* side) const;
  bool decode_steps(Codes* codes, size_t first, size_t count, float* values) const;
  Stored encode_groups(const float* values, size_t first, size_t count, size_t rows, Codes* codes) const;
  void decode_groups(Codes* codes, size_t first, size_t count, size_t rows, float* values) const;
  const uint8_t* given_run(size_t at, size_t count, Codes* codes) const;
  size_t range_rows(size_t rows) const;
  void find_ranges(const float* values, size_t count, Codes* codes) const;
  bool seal_ranges(size_t rows, uint16_t* parameters, Codes* codes) const;
  void unseal_ranges(const uint16_t* parameters, size_t rows, Codes* codes) const;
  Stored encode_bins(const float* values, size_t first, size_t count, const RowSet& set, Codes* codes) const;
  void decode_bins(Codes* codes, size_t first, size_t count, const RowSet& set, float* values) const;
  // Where the codes of a row of this part begin, and how many bins there are to either side of zero.
  size_t bins_at(size_t row, const RowSet& set, size_t part) const;
  float half_of(const RowSet& set, size_t part) const;
  size_t wanted_rows() const;

  const Spec& spec_;
  const Isa isa_;
  const Kernels& kernels_;
  const size_t width_;
  std::vector<float> inverse_steps_;
  std::vector<uint32_t> symbols_;  // of each column: zigzag codes below travel as they are
  // Of groups: ranges that one row (axis channel: one row of groups) has, values in a run of one, and the highest code of each range
  // of all rows of a band that have their own.
  size_t ranges_ = 0, run_ = 0;
  std::vector<float> tops_;
};

}  // namespace kvferry::codec
