#include <memory>

#include "rans.h"

namespace kvferry::codec {
namespace {

constexpr int64_t kFiner = 16;  // points of integration in a step
constexpr uint64_t kOne = 1ull << 32;
constexpr int kTimeBits = 24;

// 2^32 e^(-x^2 / 2 deviation^2), x in 16ths of a step.
uint64_t density(int64_t x, int quarter_octaves) {
  constexpr uint64_t kInverseRoot2 = 3037000500, kLog2OfE = 6196328019, kLogOf2 = 2977044472;  // times 2^32
  constexpr uint64_t kNothing = 64ull << kTimeBits;
  const int octaves = quarter_octaves >> 1;  // of the deviation's square; rounded down
  uint64_t exponent = uint64_t(x * x) << (kTimeBits - 9);
  exponent = octaves >= 0 ? exponent >> octaves : exponent << -octaves;
  if (exponent >= kNothing) return 0;
  if ((quarter_octaves & 1) != 0) exponent = exponent * kInverseRoot2 >> 32;
  const uint64_t halvings = exponent * kLog2OfE >> 32;
  const uint64_t rest = ((halvings & ((1 << kTimeBits) - 1)) << (32 - kTimeBits)) * kLogOf2 >> 32;
  uint64_t power = kOne;  // e^-rest by its series
  for (uint64_t term = 12; term > 0; term--) power = kOne - (rest * power >> 32) / term;
  const uint64_t whole = halvings >> kTimeBits;
  return whole > 32 ? 0 : power >> whole;
}

// What lies in [code - 1/2, code + 1/2], by Simpson's rule.
uint64_t weigh(int64_t code, int quarter_octaves) {
  uint64_t sum = 0;
  for (int64_t point = 0; point <= kFiner; point++) {
    const uint64_t factor = point == 0 || point == kFiner ? 1 : point % 2 == 1 ? 4 : 2;
    sum += factor * density(code * kFiner - kFiner / 2 + point, quarter_octaves);
  }
  return sum >> 14;
}

// Codes are kept while they are likelier than 2^-19: those between there and 2^-12 cost a little, but real values have longer tails
// than a Gaussian. Returns how many symbols are kept.
uint32_t make_gaussian(size_t index, RansTable* table) {
  constexpr int kKeptBits = 19;
  constexpr int64_t kCodeMost = 127, kCodeEnd = 1024;
  const int quarter_octaves = int(index) - int(kGaussianUnit);
  uint32_t counts[kRansSymbols] = {};
  uint64_t total = weigh(0, quarter_octaves);
  counts[0] = uint32_t(total);
  for (int64_t code = 1; code < kCodeEnd; code++) {
    const uint64_t weight = weigh(code, quarter_octaves);
    total += 2 * weight;
    if (code <= kCodeMost) counts[2 * code - 1] = counts[2 * code] = uint32_t(weight);
    if (weight == 0) break;
  }
  uint64_t kept = counts[0];
  uint32_t symbols = 1;
  for (; symbols < kEscape && uint64_t(counts[symbols]) << kKeptBits >= total; symbols += 2) kept += 2 * counts[symbols];
  for (uint32_t symbol = symbols; symbol < kEscape; symbol++) counts[symbol] = 0;
  const uint64_t beyond = total - kept;
  counts[kEscape] = uint32_t(beyond == 0 ? 1 : beyond);
  RansTable::fit(counts, kRansSymbols, table);
  return symbols;
}

struct Gaussians {
  Gaussians() : tables(new RansTable[kGaussianTables]) {
    for (size_t index = 0; index < kGaussianTables; index++) symbols[index] = make_gaussian(index, &tables[index]);
  }
  const std::unique_ptr<RansTable[]> tables;
  uint32_t symbols[kGaussianTables];
};

const Gaussians& gaussians() {
  static const Gaussians made;
  return made;
}

}  // namespace

const RansTable* gaussian_tables() { return gaussians().tables.get(); }

uint32_t gaussian_symbols(size_t table) { return gaussians().symbols[table]; }

}  // namespace kvferry::codec
