// What a codec does to a tile: a transform of its rows, a quantizer, a coder of codes, with their parameters. transport/native.ts has the same in JavaScript.
// A *row* is one token of a tile as floats: part by part, head by head, channel by channel. Arrays "of the width" have one number for each column.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "values.h"

namespace kvferry::codec {

enum class Pairing : uint32_t { half, adjacent };
enum class Axis : uint32_t { token, channel, tensor };
enum class Quantizer : uint32_t { none, step, group, fp8, cachegen };
enum class Coder : uint32_t { none, pack, rans, rans_static, exponent, planes, zstd, nvcomp_ans, nvcomp_bitcomp };

// As transport/limits.ts has them.
constexpr uint32_t kTokensMax = 65536;
constexpr uint32_t kWidthMax = 65536;
constexpr uint64_t kTileBytesMax = 256 << 20;

struct Spec {
  Element element = Element::bf16;
  uint32_t parts = 0, heads = 0, channels = 0;
  uint32_t exempt = 0;  // tokens at positions below this travel as they are
  bool verify = false;  // blocks carry a checksum of what they decode to

  // Transform, in this order forward; what is empty is left out.
  std::vector<float> inverse_frequencies;  // the first 2 x that many channels of a head were rotated
  Pairing pairing = Pairing::half;
  std::vector<float> mean;   // of the width
  std::vector<float> scale;  // of the width; forward multiplies
  std::vector<int8_t> signs;  // of the width, +-1: signed Hadamard over each head
  uint32_t klt_block = 0;
  std::vector<float> matrices;  // width / klt_block matrices, rows are components
  uint32_t anchor = 0;  // of so many coded tokens the first, and of the others what they differ from it; 0: no delta

  Quantizer quantizer = Quantizer::none;
  std::vector<float> steps;      // of the width
  std::vector<uint16_t> levels;  // group: of parts x heads; cachegen: of parts
  Axis axis = Axis::token;
  uint32_t group = 0;   // channels (axis token) or tokens (axis channel) that share a range
  uint32_t recent = 0;  // tokens before the end that travel as they are
  Fp8 format = Fp8::e4m3;

  Coder coder = Coder::none;
  int32_t level = 1;             // of zstd
  std::vector<uint8_t> classes;  // of the width, into gaussian_tables

  size_t part_width() const { return size_t(heads) * channels; }
  size_t width() const { return parts * part_width(); }
  size_t row_bytes() const { return width() * element_bytes(element); }
  bool has_transform() const {
    return !inverse_frequencies.empty() || !mean.empty() || !scale.empty() || !signs.empty() || klt_block != 0 || anchor != 0;
  }
  bool is_lossy() const { return has_transform() || quantizer != Quantizer::none; }
};

// A coder that native/cuda has, and the CPU has not.
constexpr bool is_nvcomp(Coder coder) { return coder == Coder::nvcomp_ans || coder == Coder::nvcomp_bitcomp; }

// "" or what makes no sense, in words.
std::string problem_of(const Spec& spec);
// 64 bits of all that decides what a block means. Not against malice: a profile's id does that.
uint64_t identity_of(const Spec& spec);

}  // namespace kvferry::codec
