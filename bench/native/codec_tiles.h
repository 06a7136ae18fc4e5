// Whole profiles on tiles of 512 tokens of 3 heads of 64 channels, K and V in turns: from the values to a block and back.
#pragma once
#include <cmath>
#include <memory>

#include "codec/tile.h"
#include "codec_case.h"

namespace tiles {

using namespace kvferry::codec;

struct Columns {
  std::vector<float> mean = std::vector<float>(kWidth), sigma = std::vector<float>(kWidth);
  explicit Columns(const std::vector<uint8_t>& values) {
    std::vector<double> sums(kWidth), squares(kWidth);
    for (size_t at = 0; at < kValues; at++) {
      const double value = from_bf16(uint16_t(values[2 * at] | values[2 * at + 1] << 8));
      sums[at % kWidth] += value, squares[at % kWidth] += value * value;
    }
    const double count = double(kValues) / kWidth;
    for (size_t column = 0; column < kWidth; column++) {
      const double center = sums[column] / count;
      mean[column] = float(center);
      sigma[column] = float(std::sqrt(squares[column] / count - center * center));
    }
  }
};

inline Spec plain() {
  Spec spec;
  spec.parts = 1, spec.heads = 3, spec.channels = 64;
  return spec;
}

inline Spec grouped(uint16_t levels) {
  Spec spec = plain();
  spec.quantizer = Quantizer::group;
  spec.levels.assign(spec.heads, levels);
  spec.group = 64;
  spec.coder = Coder::pack;
  return spec;
}

// As `cpu-fast` (`cpu-near`: with halves of its steps) has it: deviations from one to four steps, two in the middle, which are 3 bits.
inline Spec stepped(const Columns& columns, bool is_key, bool is_near) {
  Spec spec = plain();
  spec.mean = columns.mean;
  for (size_t column = 0; column < kWidth; column++) {
    const size_t pair = column % 64 < 32 ? column + 32 : column - 32;
    const float own = columns.sigma[column], other = is_key ? columns.sigma[pair] : own;
    const int table = (is_near ? 16 : 12) + int(column % 9);
    spec.classes.push_back(uint8_t(table));
    spec.steps.push_back(std::sqrt((own * own + other * other) / 2) * std::exp2(float(12 - table) / 4));
  }
  for (int pair = 0; is_key && pair < 32; pair++) spec.inverse_frequencies.push_back(float(std::pow(10000.0, -pair / 32.0)));
  spec.quantizer = Quantizer::step;
  spec.coder = Coder::rans_static;
  return spec;
}

inline Spec lossless() {
  Spec spec = plain();
  spec.coder = Coder::exponent;
  return spec;
}

struct Named {
  std::string name;
  Spec k, v;
};

inline std::vector<Named> profiles(const Columns& columns) {
  const auto diagonal = [&](const char* name, bool is_near) { return Named{name, stepped(columns, true, is_near), stepped(columns, false, is_near)}; };
  return {
      {"int8", grouped(256), grouped(256)},
      {"int4", grouped(16), grouped(16)},
      diagonal("cpu-fast", false),
      diagonal("cpu-near", true),
      {"lossless", lossless(), lossless()},
  };
}

// K and V, and where their blocks are. Lives as long as the program.
struct Profile {
  std::unique_ptr<TileCodec> k, v;
  Workspace space;
  Profile(const Spec& key, const Spec& value, Isa isa) : k(new TileCodec(key, isa)), v(new TileCodec(value, isa)) {}
  const TileCodec& of(size_t block) const { return block % 2 == 0 ? *k : *v; }
};

inline void add(std::vector<Case>* cases, const std::string& name, std::shared_ptr<Profile> profile, Isa isa, const std::vector<uint8_t>& values,
                std::vector<uint8_t>* back) {
  auto blocks = std::make_shared<Blocks>(std::max(profile->k->bound(kRows), profile->v->bound(kRows)));
  cases->push_back({name + " encode", isa_name(isa), [=, &values] {
    return blocks->each([&](size_t block, uint8_t* out, size_t* bytes) {
      const uint8_t* parts[] = {values.data() + 2 * block * kBlockValues};
      *bytes = profile->of(block).encode(parts, kRows, uint32_t(block * kRows), UINT32_MAX, out, &profile->space).bytes;
      return true;
    });
  }});
  cases->push_back({name + " decode", isa_name(isa), [=] {
    return blocks->each([&](size_t block, uint8_t* in, size_t* bytes) {
      uint8_t* parts[] = {back->data() + 2 * block * kBlockValues};
      return profile->of(block).decode(in, *bytes, parts, kRows, uint32_t(block * kRows), &profile->space).empty();
    });
  }});
}

inline void add_all(std::vector<Case>* cases, Isa isa, const std::vector<uint8_t>& values, const Columns& columns, std::vector<uint8_t>* back) {
  for (const auto& [name, key, value] : profiles(columns)) add(cases, name, std::make_shared<Profile>(key, value, isa), isa, values, back);
}

}  // namespace tiles
