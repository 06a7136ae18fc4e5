// Codecs on a GPU or its emulator, as tests see them: `DeviceCodec` in the addon's exports.
#pragma once
#include <napi.h>

namespace kvferry {

void init_device_codec(Napi::Env env, Napi::Object exports);

}  // namespace kvferry
