// A codec's spec as it crosses the boundary; transport/native.ts has its fields.
#pragma once
#include <napi.h>

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "../codec/isa.h"
#include "../codec/merge.h"
#include "../codec/spec.h"
#include "../codec/tile_coder.h"

namespace kvferry {

// What JavaScript says of a codec: one spec, or those of keys and values whose tokens are merged first.
struct CoderSpec {
  codec::Spec keys, values;
  bool merges = false;
  codec::MergeRules rules;
  std::vector<bool> skipped;
  codec::Isa isa = codec::best_isa();
};

// Those of a KLT of keys and of values. They can be a hundred megabytes, and are not copied; empty if there is none.
using KltMatrices = std::array<Napi::Float32Array, 2>;

// "" or what is wrong, in words, here and below; of codecs alone on CPUs, what they lack here too. `isa` stays as it is if the spec names none.
std::string read_codec_spec(Napi::Value value, codec::Spec* spec, codec::Isa* isa);
std::string read_merge_rules(Napi::Value value, codec::MergeRules* rules);
// As far as it can be said without the matrices.
std::string parse_coder(Napi::Value value, CoderSpec* spec, KltMatrices* matrices);
// Of specs that have their matrices, on any thread.
std::string make_coder(CoderSpec spec, std::unique_ptr<const codec::TileCoder>* coder);
// All of it.
std::string read_coder(Napi::Value value, std::unique_ptr<const codec::TileCoder>* coder);

}  // namespace kvferry
