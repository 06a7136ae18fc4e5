// The JavaScript face of codecs: NativeCodec and codecIsas in the addon's exports.
#pragma once
#include <napi.h>

namespace kvferry {

void init_codec(Napi::Env env, Napi::Object exports);

}  // namespace kvferry
