#include "spec.h"

#include <cmath>
#include <cstring>

#include "rans.h"

namespace kvferry::codec {
namespace {

bool all_finite(const std::vector<float>& numbers) {
  for (const float number : numbers) {
    if (!std::isfinite(number)) return false;
  }
  return true;
}

bool has_reciprocals(const std::vector<float>& numbers) {
  for (const float number : numbers) {
    if (!std::isfinite(number) || !std::isnormal(number) || !std::isfinite(1 / number) || !std::isnormal(1 / number)) return false;
  }
  return true;
}

std::string problem_of_sizes(const Spec& spec) {
  const uint64_t width = uint64_t(spec.parts) * spec.heads;
  if (width == 0 || spec.channels == 0) return "parts, heads and channels are at least 1";
  if (width > kWidthMax || width * spec.channels > kWidthMax) return "a row is at most " + std::to_string(kWidthMax) + " values wide";
  return "";
}

std::string problem_of_transform(const Spec& spec) {
  const size_t width = spec.width();
  if (spec.inverse_frequencies.size() * 2 > spec.channels) return "rope.inverseFrequencies has at most channels / 2 numbers";
  if (!all_finite(spec.inverse_frequencies)) return "rope.inverseFrequencies is finite";
  if (!spec.mean.empty() && spec.mean.size() != width) return "mean has one number for each column";
  if (!all_finite(spec.mean)) return "mean is finite";
  if (!spec.scale.empty() && spec.scale.size() != width) return "scale has one number for each column";
  if (!has_reciprocals(spec.scale)) return "scale has a reciprocal";
  if (!spec.signs.empty() && spec.signs.size() != width) return "signs has one number for each column";
  for (const int8_t sign : spec.signs) {
    if (sign != 1 && sign != -1) return "signs are 1 or -1";
  }
  const bool is_power = (spec.channels & (spec.channels - 1)) == 0;
  if (!spec.signs.empty() && !is_power) return "a Hadamard transform needs channels that are a power of two";
  if (spec.klt_block == 0) return spec.matrices.empty() ? "" : "klt.matrices needs klt.block";
  if (width % spec.klt_block != 0) return "klt.block divides the width";
  if (spec.matrices.size() != width * spec.klt_block) return "klt.matrices has width / block matrices of block x block";
  for (size_t row = 0; row < width; row++) {
    double square = 0;
    for (size_t i = 0; i < spec.klt_block; i++) square += std::pow(double(spec.matrices[row * spec.klt_block + i]), 2);
    if (!(std::fabs(square - 1) < 1e-2)) return "klt.matrices has rows of length 1";
  }
  return "";
}

std::string problem_of_levels(const Spec& spec, size_t count, uint32_t least) {
  if (spec.levels.size() != count) return "levels has " + std::to_string(count) + " numbers";
  for (const uint16_t levels : spec.levels) {
    if (levels < least || levels > 256) return "levels are " + std::to_string(least) + " to 256";
  }
  return "";
}

std::string problem_of_quantizer(const Spec& spec) {
  switch (spec.quantizer) {
    case Quantizer::none:
    case Quantizer::fp8: return "";
    case Quantizer::step:
      if (spec.steps.size() != spec.width()) return "steps has one number for each column";
      if (!has_reciprocals(spec.steps)) return "steps have a reciprocal";
      for (const float step : spec.steps) {
        if (step < 0) return "steps are above 0";
      }
      return "";
    case Quantizer::group:
      if (spec.axis != Axis::tensor && spec.group == 0) return "group is at least 1";
      return problem_of_levels(spec, size_t(spec.parts) * spec.heads, 2);
    case Quantizer::cachegen:
      return problem_of_levels(spec, spec.parts, 3);
  }
  return "no such quantizer";
}

std::string problem_of_coder(const Spec& spec) {
  const bool is_coded = spec.quantizer != Quantizer::none;
  switch (spec.coder) {
    case Coder::none: return "";
    case Coder::pack:
    case Coder::rans: return is_coded ? "" : "pack and rans need a quantizer: values of the element type are no symbols";
    case Coder::rans_static:
      if (spec.quantizer != Quantizer::step) return "rans-static needs the quantizer step";
      if (spec.classes.size() != spec.width()) return "classes has one number for each column";
      for (const uint8_t table : spec.classes) {
        if (table >= kGaussianTables) return "classes are below " + std::to_string(kGaussianTables);
      }
      return "";
    case Coder::exponent:
      return !is_coded && spec.element != Element::f32 ? "" : "exponent is for bf16 and f16 without a quantizer";
    case Coder::planes: return is_coded ? "planes is for values without a quantizer" : "";
    case Coder::zstd: return "";
    case Coder::nvcomp_ans:
    case Coder::nvcomp_bitcomp: return spec.quantizer == Quantizer::cachegen ? "nvCOMP's coders do not go with cachegen" : "";
  }
  return "no such codec";
}

class Mixer {
 public:
  void number(uint64_t value) {
    state_ = (state_ ^ value) * 0x9E3779B97F4A7C15u;
    state_ ^= state_ >> 32;
  }
  template <typename Number>
  void list(const std::vector<Number>& numbers) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(numbers.data());
    const size_t count = numbers.size() * sizeof(Number);
    number(count);
    for (size_t at = 0; at < count; at += 8) {
      uint64_t word = 0;
      memcpy(&word, bytes + at, count - at < 8 ? count - at : 8);
      number(word);
    }
  }
  uint64_t state() const { return state_; }

 private:
  uint64_t state_ = 0x6B76666572727931;
};

}  // namespace

std::string problem_of(const Spec& spec) {
  for (const auto check : {problem_of_sizes, problem_of_transform, problem_of_quantizer, problem_of_coder}) {
    if (std::string problem = check(spec); !problem.empty()) return problem;
  }
  return "";
}

uint64_t identity_of(const Spec& spec) {
  Mixer mixer;
  for (const uint32_t number : {uint32_t(spec.element), spec.parts, spec.heads, spec.channels, spec.exempt}) mixer.number(number);
  mixer.number(uint32_t(spec.pairing));
  mixer.list(spec.inverse_frequencies);
  mixer.list(spec.mean);
  mixer.list(spec.scale);
  mixer.list(spec.signs);
  mixer.number(spec.klt_block);
  mixer.list(spec.matrices);
  for (const uint32_t number : {uint32_t(spec.quantizer), uint32_t(spec.axis), uint32_t(spec.format)}) mixer.number(number);
  for (const uint32_t number : {spec.group, spec.recent, spec.anchor}) mixer.number(number);
  mixer.list(spec.steps);
  mixer.list(spec.levels);
  mixer.number(uint32_t(spec.coder));
  mixer.list(spec.classes);
  return mixer.state();
}

}  // namespace kvferry::codec
