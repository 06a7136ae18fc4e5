// Token merging by itself, for files: `codecMerging` in the addon's exports.
#pragma once
#include <napi.h>

namespace kvferry {

void init_codec_merging(Napi::Env env, Napi::Object exports);

}  // namespace kvferry
