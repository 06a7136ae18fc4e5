// What is measured: specs at the shapes of Llama-3.1-8B, and KV for them, drawn from what the specs expect.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "codec/spec.h"

namespace kvferry::bench {

struct Random {
  uint64_t state = 88172645463325252ull;
  uint64_t next();
  double uniform();  // (0, 1)
  float normal();
};

struct Shape {
  uint32_t parts = 1, heads = 8, channels = 128;
};

// Values of a part's tokens, bf16, one after the other.
using Values = std::vector<uint16_t>;

struct Case {
  std::string name;
  codec::Spec spec;
  uint32_t tile_tokens;
  bool is_exact;  // the CPU's blocks, byte for byte; with nvCOMP its values
  // Of each part, `tokens` tokens.
  std::vector<Values> (*draw)(const codec::Spec& spec, uint32_t tokens, Random* random);
};

// `is_small`: for the emulator. `has_nvcomp`: its coders too.
std::vector<Case> cases_of(bool is_small, bool has_nvcomp);

}  // namespace kvferry::bench
