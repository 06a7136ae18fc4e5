// A codec's spec as it crosses the boundary; transport/native.ts has its fields.
#pragma once
#include <napi.h>

#include <string>

#include "../codec/isa.h"
#include "../codec/spec.h"

namespace kvferry {

// "" or what is missing or of the wrong type, in words. `isa` stays as it is if the spec names none. `matrices`: those of a KLT, which can be a hundred megabytes
// and are not copied; empty if there is none.
std::string parse_codec_spec(Napi::Value value, codec::Spec* spec, codec::Isa* isa, Napi::Float32Array* matrices);
// "" or what makes no sense, or cannot be had on this host. On any thread.
std::string check_codec_spec(const codec::Spec& spec);
// Both, and copies the matrices.
std::string read_codec_spec(Napi::Value value, codec::Spec* spec, codec::Isa* isa);

}  // namespace kvferry
