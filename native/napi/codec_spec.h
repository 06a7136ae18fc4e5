// A codec's spec as it crosses the boundary; transport/native.ts has its fields.
#pragma once
#include <napi.h>

#include <memory>
#include <string>

#include "../codec/isa.h"
#include "../codec/merge.h"
#include "../codec/spec.h"
#include "../codec/tile_coder.h"

namespace kvferry {

// "" or what is missing, of the wrong type or makes no sense, in words. `isa` stays as it is if the spec names none.
std::string read_codec_spec(Napi::Value value, codec::Spec* spec, codec::Isa* isa);
std::string read_merge_rules(Napi::Value value, codec::MergeRules* rules);
// Of a spec, or of one that merges tokens.
std::string read_coder(Napi::Value value, std::unique_ptr<const codec::TileCoder>* coder);

}  // namespace kvferry
