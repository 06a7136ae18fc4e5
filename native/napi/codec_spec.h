// A codec's spec as it crosses the boundary; transport/native.ts has its fields.
#pragma once
#include <napi.h>

#include <string>

#include "../codec/isa.h"
#include "../codec/spec.h"

namespace kvferry {

// "" or what is missing, of the wrong type or makes no sense, in words. `isa` stays as it is if the spec names none.
std::string read_codec_spec(Napi::Value value, codec::Spec* spec, codec::Isa* isa);

}  // namespace kvferry
