// One measurement each: KV in pages of 16 tokens, as vLLM lays it, to blocks and back.
#pragma once
#include <cstdint>
#include <string>

#include "cuda/driver.h"
#include "data.h"

namespace kvferry::bench {

struct World {
  cuda::Device* device;
  cuda::Gpu* gpu;  // nullptr: the emulator
  uint64_t bytes;  // of KV, bf16
  uint32_t rounds;
  std::string nvcomp;  // a path in place of the host's, or ""
};

// What is printed of each, as members of a JSON object; speeds only of a GPU.
struct Result {
  std::string name;
  uint64_t bytes = 0, coded_bytes = 0;
  double encode_seconds = 0, decode_seconds = 0;
  std::string problem;  // "" if what was checked is right
};

Result run_codec(const World& world, const Case& one);
// The coder by itself: symbols to streams and back.
Result run_rans(const World& world);
// Bytes copied a second, each read and written.
double copy_rate(const World& world);

}  // namespace kvferry::bench
