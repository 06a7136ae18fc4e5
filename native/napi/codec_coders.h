// The entropy coders by themselves, for tests and fuzzing: `codecCoders` in the addon's exports.
#pragma once
#include <napi.h>

namespace kvferry {

void init_codec_coders(Napi::Env env, Napi::Object exports);

}  // namespace kvferry
