// What the host has of CUDA: `cuda` in the addon's exports.
#pragma once
#include <napi.h>

namespace kvferry {

void init_cuda(Napi::Env env, Napi::Object exports);

}  // namespace kvferry
