// The JavaScript face of codecs: NativeCodec and codecIsas in the addon's exports.
#pragma once
#include <napi.h>

#include <memory>

#include "../core/chunk_codec.h"

namespace kvferry {

void init_codec(Napi::Env env, Napi::Object exports);
// nullptr: the value is no NativeCodec.
std::shared_ptr<const ChunkCodec> chunk_codec_of(const Napi::Value& value);

}  // namespace kvferry
