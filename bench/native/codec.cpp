// How fast native/codec is on one core, beside a memcpy of 256 MiB in the same rounds: a line of JSON for each.
//   codec ISAS [FILE OFFSET BYTES]    names of instruction sets, comma-separated, or all; bf16 that lie there, else values of columns that each have a
//                                     deviation of their own
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "codec/exponent.h"
#include "codec/pack.h"
#include "codec/planes.h"
#include "codec/rans.h"
#include "codec_case.h"
#include "codec_chunks.h"
#include "codec_tiles.h"

namespace {

using namespace kvferry::codec;

constexpr size_t kCopyBytes = 256 << 20, kRounds = 9;

uint64_t random_state = 88172645463325252ull;
double uniform() {
  random_state ^= random_state << 13, random_state ^= random_state >> 7, random_state ^= random_state << 17;
  return (double(random_state >> 11) + 0.5) / 9007199254740992.0;
}
double normal() { return std::sqrt(-2 * std::log(uniform())) * std::cos(6.283185307179586 * uniform()); }

std::vector<uint8_t> values_of(const char* path, long offset, size_t bytes) {
  std::vector<uint8_t> values(2 * kValues);
  if (path == nullptr) {
    for (size_t at = 0; at < kValues; at++) {
      const float value = float(normal() * std::exp2(double(at * 2654435761u % kWidth % 16) / 4));
      uint32_t bits;
      memcpy(&bits, &value, 4);
      bits >>= 16;
      memcpy(&values[2 * at], &bits, 2);
    }
    return values;
  }
  FILE* file = fopen(path, "rb");
  if (file == nullptr || fseek(file, offset, SEEK_SET) != 0) exit(2);
  const size_t read = fread(values.data(), 1, std::min(bytes, values.size()), file);
  fclose(file);
  if (read < 2 * kBlockValues) exit(2);
  // A smaller file is read round and round.
  for (size_t at = read & ~size_t(1), from = 0; at < values.size(); at++, from++) values[at] = values[from];
  return values;
}

// Symbols of columns of 12 classes around 3.5 bits, as a calibrated profile without a matrix product has them.
struct Matrix {
  std::vector<uint8_t> symbols = std::vector<uint8_t>(kValues), table_of = std::vector<uint8_t>(kWidth);
  RansColumns columns;
  Matrix() {
    for (size_t column = 0; column < kWidth; column++) table_of[column] = uint8_t(12 + column * 7 % 12);
    RansColumns::make(gaussian_tables(), kGaussianTables, table_of.data(), kWidth, &columns);
    for (size_t at = 0; at < kValues; at++) {
      random_state ^= random_state << 13, random_state ^= random_state >> 7, random_state ^= random_state << 17;
      symbols[at] = uint8_t(gaussian_tables()[table_of[at % kWidth]].decode[random_state >> 20 & 4095]);
    }
  }
};

void add_cases(std::vector<Case>* cases, Isa isa, const std::vector<uint8_t>& values, const Matrix& matrix, std::vector<uint8_t>* back) {
  static Scratch scratch;
  static Blocks exponents(exponent_bound(kBlockValues / kWidth, kWidth)), streams(rans_bound(kBlockValues)), packed(kBlockValues / 2);
  const std::string name = isa_name(isa);
  const size_t rows = kRows;
  const auto add = [&](const char* what, auto code, Blocks& blocks) {
    cases->push_back({what, name, [code, &blocks] { return blocks.each(code); }});
  };
  const auto value = [&values](size_t block) { return values.data() + 2 * block * kBlockValues; };
  const auto symbol = [&matrix](size_t block) { return matrix.symbols.data() + block * kBlockValues; };
  const auto to = [back](size_t block) { return back->data() + 2 * block * kBlockValues; };
  add("exponents encode", [=](size_t block, uint8_t* out, size_t* bytes) {
    *bytes = exponent_encode(value(block), rows, kWidth, out, scratch, isa);
    return true;
  }, exponents);
  add("exponents decode", [=](size_t block, uint8_t* in, size_t* bytes) {
    return exponent_decode(in, *bytes, to(block), rows, kWidth, scratch, isa);
  }, exponents);
  add("static rans encode", [=, &matrix](size_t block, uint8_t* out, size_t* bytes) {
    return rans_encode(symbol(block), rows, matrix.columns, out, bytes, isa);
  }, streams);
  add("static rans decode", [=, &matrix](size_t block, uint8_t* in, size_t* bytes) {
    return rans_decode(in, *bytes, to(block), rows, matrix.columns, isa);
  }, streams);
  add("pack 4 bits", [=](size_t block, uint8_t* out, size_t* bytes) {
    pack(packing_of(16), symbol(block), kBlockValues, out, isa);
    *bytes = kBlockValues / 2;
    return true;
  }, packed);
  add("unpack 4 bits", [=](size_t block, uint8_t* in, size_t* bytes) {
    return unpack(packing_of(16), in, *bytes, to(block), kBlockValues, isa);
  }, packed);
}

double median(std::vector<double> numbers) {
  std::sort(numbers.begin(), numbers.end());
  return numbers[numbers.size() / 2];
}

}  // namespace

int main(int count, char** arguments) {
  const std::string wanted = std::string(",") + (count > 1 ? arguments[1] : "all") + ",";
  const std::vector<uint8_t> values = count > 4 ? values_of(arguments[2], atol(arguments[3]), size_t(atol(arguments[4]))) : values_of(nullptr, 0, 0);
  const Matrix matrix;
  const tiles::Columns columns(values);
  std::vector<uint8_t> from(kCopyBytes, 1), to(kCopyBytes, 2), back(2 * kValues, 3);
  std::vector<Case> cases;
  cases.push_back({"memcpy", "", [&] { return memcpy(to.data(), from.data(), kCopyBytes), size_t(to[random_state % kCopyBytes]); }});
  bool is_best = true;
  for (const Isa isa : isas()) {
    if (wanted != ",all," && wanted.find(std::string(",") + isa_name(isa) + ",") == std::string::npos) continue;
    add_cases(&cases, isa, values, matrix, &back);
    tiles::add_all(&cases, isa, values, columns, &back);
    if (std::exchange(is_best, false)) chunks::add_all(&cases, isa, values, columns);
  }
  for (size_t round = 0; round < kRounds; round++) {
    for (Case& one : cases) {
      const double begin = seconds_now();
      seconds_aside = 0;
      one.coded = one.run();
      one.seconds.push_back(seconds_now() - begin - seconds_aside);
    }
  }
  const double copy_rate = double(kCopyBytes) / median(cases[0].seconds);
  printf("{\"name\":\"memcpy\",\"bytesPerSecond\":%.0f}\n", copy_rate);
  for (size_t at = 1; at < cases.size(); at++) {
    const Case& one = cases[at];
    const double rate = 2.0 * double(one.values) / median(one.seconds);
    printf("{\"name\":\"%s\",\"isa\":\"%s\",\"way\":\"%s\",\"bytesPerSecond\":%.0f,\"timesSlowerThanMemcpy\":%.2f,\"bitsPerValue\":%.3f}\n",
           one.name.c_str(), one.isa.c_str(), one.way, rate, copy_rate / rate, 8.0 * double(one.coded) / double(one.values));
  }
  return 0;
}
