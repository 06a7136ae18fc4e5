#include "data.h"

#include <algorithm>
#include <cmath>

#include "codec/rans.h"
#include "codec/values.h"

namespace kvferry::bench {
namespace {

using codec::Spec;

Spec base_of(const Shape& shape) {
  Spec spec;
  spec.parts = shape.parts, spec.heads = shape.heads, spec.channels = shape.channels;
  spec.exempt = 4;
  return spec;
}

// Deviations of columns, as a calibration would find them: an octave every 16th of them.
float deviation_of(size_t column, size_t width) { return std::exp2(float(column * 2654435761u % width % 16) / 4 - 2); }

// Components of a KLT: most of what there is lies in few of them.
float component_of(size_t component) { return 24.0f / std::pow(float(component + 1), 0.55f); }

uint8_t class_of(float deviation, float step) {
  const long nearest = std::lround(4 * std::log2(deviation / step)) + long(codec::kGaussianUnit);
  return uint8_t(std::clamp(nearest, 0l, long(codec::kGaussianTables) - 1));
}

std::vector<Values> draw_columns(const Spec& spec, uint32_t tokens, Random* random) {
  std::vector<Values> parts(spec.parts);
  for (uint32_t part = 0; part < spec.parts; part++) {
    for (size_t at = 0; at < tokens * spec.part_width(); at++) {
      const size_t column = part * spec.part_width() + at % spec.part_width();
      parts[part].push_back(codec::to_bf16(random->normal() * deviation_of(column, spec.width())));
    }
  }
  return parts;
}

// The unit vector whose reflection is the KLT's matrix: orthonormal and symmetric, and applied in a pass.
std::vector<float> mirror_of(size_t width) {
  Random random = {0x9E3779B97F4A7C15ull};
  std::vector<float> mirror(width);
  double square = 0;
  for (float& one : mirror) one = random.normal(), square += double(one) * one;
  for (float& one : mirror) one = float(one / std::sqrt(square));
  return mirror;
}

std::vector<Values> draw_components(const Spec& spec, uint32_t tokens, Random* random) {
  const std::vector<float> mirror = mirror_of(spec.width());
  std::vector<Values> parts(spec.parts);
  std::vector<float> row(spec.width());
  for (uint32_t token = 0; token < tokens; token++) {
    double dot = 0;
    for (size_t at = 0; at < row.size(); at++) row[at] = random->normal() * component_of(at), dot += double(row[at]) * mirror[at];
    for (size_t at = 0; at < row.size(); at++) {
      parts[at / spec.part_width()].push_back(codec::to_bf16(row[at] - 2 * float(dot) * mirror[at]));
    }
  }
  return parts;
}

Spec grouped(const Shape& shape, codec::Axis axis) {
  Spec spec = base_of(shape);
  spec.quantizer = codec::Quantizer::group;
  spec.levels.assign(shape.parts * shape.heads, 16);
  spec.axis = axis;
  spec.group = 64;
  spec.coder = codec::Coder::pack;
  return spec;
}

void add_rotation(Spec* spec) {
  for (uint32_t pair = 0; pair < spec->channels / 2; pair++) {
    spec->inverse_frequencies.push_back(float(std::pow(500000.0, -2.0 * pair / spec->channels)));
  }
}

Spec stepped(const Shape& shape, float step) {
  Spec spec = base_of(shape);
  spec.mean.assign(spec.width(), 0.125f);
  spec.quantizer = codec::Quantizer::step;
  spec.coder = codec::Coder::rans_static;
  spec.steps.assign(spec.width(), step);
  for (size_t column = 0; column < spec.width(); column++) spec.classes.push_back(class_of(deviation_of(column, spec.width()), step));
  return spec;
}

Spec with_klt(const Shape& shape, float step) {
  Spec spec = stepped(shape, step);
  spec.mean.assign(spec.width(), 0.0f);
  spec.klt_block = uint32_t(spec.width());
  const std::vector<float> mirror = mirror_of(spec.width());
  spec.matrices.resize(spec.width() * spec.width());
  for (size_t row = 0; row < spec.width(); row++) {
    for (size_t column = 0; column < spec.width(); column++) {
      spec.matrices[row * spec.width() + column] = (row == column ? 1.0f : 0.0f) - 2 * mirror[row] * mirror[column];
    }
    spec.classes[row] = class_of(component_of(row), step);
  }
  return spec;
}

}  // namespace

uint64_t Random::next() {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return state;
}

double Random::uniform() { return (double(next() >> 11) + 0.5) / 9007199254740992.0; }

float Random::normal() { return float(std::sqrt(-2 * std::log(uniform())) * std::cos(6.283185307179586 * uniform())); }

std::vector<Case> cases_of(bool is_small, bool has_nvcomp) {
  const Shape layer = is_small ? Shape{1, 2, 128} : Shape{1, 8, 128};
  const Shape layers = is_small ? Shape{5, 2, 64} : Shape{5, 8, 128};
  // Tiles of a mebibyte, and of a third of one where five layers are together: a warp codes a tile, and there are to be many.
  const uint32_t tile = is_small ? 64 : 512, wide_tile = is_small ? 40 : 32;
  Spec lossless = base_of(layer);
  lossless.coder = codec::Coder::exponent;
  Spec rotated = grouped(layer, codec::Axis::token);
  add_rotation(&rotated);
  rotated.mean.assign(rotated.width(), 0.125f);
  for (size_t column = 0; column < rotated.width(); column++) rotated.signs.push_back(column * 2654435761u % 7 < 3 ? -1 : 1);
  Spec fast = stepped(layer, 0.55f);
  add_rotation(&fast);
  std::vector<Case> cases = {
      {"int4", grouped(layer, codec::Axis::token), tile, true, draw_columns},
      {"kivi4 of K", grouped(layer, codec::Axis::channel), tile, true, draw_columns},
      {"hadamard4 of K", rotated, tile, true, draw_columns},
      {"cpu-fast of K", fast, tile, true, draw_columns},
      {"lossless", lossless, tile, true, draw_columns},
      {"gpu-near", with_klt(layers, 0.48f), wide_tile, false, draw_components},
  };
  const auto by = [&](size_t at, codec::Coder coder, const char* name) {
    Case one = cases[at];
    one.name += name;
    one.spec.coder = coder;
    one.spec.classes.clear();
    cases.push_back(one);
  };
  for (const size_t at : {size_t(0), size_t(4), size_t(5)}) {
    if (!has_nvcomp) break;
    by(at, codec::Coder::nvcomp_ans, " by nvcomp-ans");
    by(at, codec::Coder::nvcomp_bitcomp, " by nvcomp-bitcomp");
  }
  return cases;
}

}  // namespace kvferry::bench
