// Encodes and decodes made tiles by one spec after another, with every instruction set of this CPU: a line for each, with checksums of block and values. Exit code 1
// if two of them differ. arm64.test.ts runs it for two architectures.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "codec/merging.h"
#include "codec/tile.h"
#include "core/crc32c.h"

namespace {

using namespace kvferry;
using namespace kvferry::codec;

constexpr uint32_t kTokens = 67, kPosition = 3;

uint32_t state = 12345;
uint32_t next() { return state = state * 1664525 + 1013904223; }

std::vector<float> floats(size_t count, float low, float high) {
  std::vector<float> made(count);
  for (float& one : made) one = low + (high - low) * float(next() >> 8) / 16777216.0f;
  return made;
}

// Of three heads of 40 channels in two parts; of 64 where a Hadamard transform wants it.
Spec shape(Element element, uint32_t channels) {
  Spec spec;
  spec.element = element;
  spec.parts = 2, spec.heads = 3, spec.channels = channels, spec.exempt = 5;
  return spec;
}

void add_transform(Spec* spec, bool has_signs, uint32_t klt_block) {
  spec->inverse_frequencies = floats(spec->channels / 2, 0.0f, 1.0f);
  spec->mean = floats(spec->width(), -1, 1);
  spec->scale = floats(spec->width(), 0.5f, 2);
  for (size_t column = 0; has_signs && column < spec->width(); column++) spec->signs.push_back(next() >> 31 != 0 ? 1 : -1);
  spec->klt_block = klt_block;
  // Reflections: orthonormal, and no entry is 0 or 1.
  for (size_t b = 0; klt_block != 0 && b < spec->width() / klt_block; b++) {
    const std::vector<float> axis = floats(klt_block, -1, 1);
    float square = 0;
    for (const float one : axis) square += one * one;
    for (size_t row = 0; row < klt_block; row++) {
      for (size_t column = 0; column < klt_block; column++) {
        spec->matrices.push_back((row == column ? 1.0f : 0.0f) - 2 * axis[row] * axis[column] / square);
      }
    }
  }
}

std::vector<Spec> specs() {
  std::vector<Spec> made;
  const auto add = [&made](Spec spec, Coder coder) {
    spec.coder = coder;
    made.push_back(spec);
  };
  for (const Element element : {Element::bf16, Element::f16}) add(shape(element, 40), Coder::exponent);
  Spec step = shape(Element::bf16, 40);
  add_transform(&step, false, 60);
  step.quantizer = Quantizer::step;
  step.steps = floats(step.width(), 0.01f, 0.4f);
  step.classes.assign(step.width(), 14);
  for (const Coder coder : {Coder::none, Coder::rans, Coder::rans_static}) add(step, coder);
  step.anchor = 7;
  add(step, Coder::rans);
  for (const Axis axis : {Axis::token, Axis::channel, Axis::tensor}) {
    for (const Element element : {Element::bf16, Element::f32}) {
      Spec group = shape(element, 64);
      add_transform(&group, true, 0);
      group.pairing = Pairing::adjacent;
      group.quantizer = Quantizer::group;
      group.axis = axis, group.group = 13, group.recent = 4;
      group.levels = {2, 5, 16, 16, 200, 256};
      for (const Coder coder : {Coder::pack, Coder::rans}) add(group, coder);
    }
  }
  for (const Fp8 format : {Fp8::e4m3, Fp8::e5m2}) {
    Spec fp8 = shape(Element::f16, 40);
    fp8.quantizer = Quantizer::fp8, fp8.format = format;
    add(fp8, Coder::rans);
  }
  Spec bins = shape(Element::bf16, 40);
  bins.quantizer = Quantizer::cachegen, bins.levels = {15, 31}, bins.anchor = 10;
  add(bins, Coder::pack);
  return made;
}

// Checksums of the block and of what it decodes to.
std::string digest_of(const TileCoder& codec, const std::vector<uint8_t>& values) {
  Workspace space;
  const size_t part = codec.part_bytes(kTokens);
  std::vector<uint8_t> block(codec.bound(kTokens)), back(codec.parts() * part);
  std::vector<const uint8_t*> parts;
  std::vector<uint8_t*> to;
  for (size_t at = 0; at < back.size(); at += part) parts.push_back(values.data() + at), to.push_back(back.data() + at);
  const Encoded encoded = codec.encode(parts.data(), kTokens, kPosition, kPosition + kTokens, block.data(), &space);
  const std::string problem = codec.decode(block.data(), encoded.bytes, to.data(), kTokens, kPosition, &space);
  char line[128];
  snprintf(line, sizeof line, "%zu %08x %08x %s%s", encoded.bytes, crc32c(0, block.data(), encoded.bytes), crc32c(0, back.data(), back.size()),
           stored_name(encoded.stored), problem.c_str());
  return line;
}

std::string run(const Spec& spec, Isa isa, const std::vector<uint8_t>& values) { return digest_of(TileCodec(spec, isa), values); }

// Keys and values that merge.
std::string run_merging(const Spec& spec, Isa isa, const std::vector<uint8_t>& values) {
  MergeRules rules;
  rules.budget = 0.4, rules.sinks = kPosition + 2, rules.recent = 0.1, rules.heavy = 0.1, rules.members = 9, rules.sigma = 0.7;
  return digest_of(MergingCodec(rules, {false, true}, spec, spec, isa), values);
}

}  // namespace

int main() {
  int differing = 0;
  for (const Spec& spec : specs()) {
    if (const std::string problem = problem_of(spec); !problem.empty()) return printf("%s\n", problem.c_str()), 2;
    std::vector<uint8_t> values(2 * kTokens * spec.row_bytes());
    const size_t element = element_bytes(spec.element);
    for (size_t at = 0; at < values.size(); at += element) {
      // Sums of numbers: the same on every machine, and near a Gaussian.
      float value = -2;
      for (int times = 0; times < 4; times++) value += float(next() >> 8) / 16777216.0f;
      const uint16_t half = spec.element == Element::f16 ? to_f16(value) : to_bf16(value);
      if (element == 4) memcpy(&values[at], &value, 4);
      if (element == 2) memcpy(&values[at], &half, 2);
    }
    for (const auto code : {run, run_merging}) {
      const std::string expected = code(spec, Isa::scalar, values);
      printf("%s\n", expected.c_str());
      for (const Isa isa : isas()) {
        if (code(spec, isa, values) != expected) differing++, printf("  %s: %s\n", isa_name(isa), code(spec, isa, values).c_str());
      }
    }
  }
  return differing == 0 ? 0 : 1;
}
