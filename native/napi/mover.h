// The JavaScript face of a mover: `new NativeMover(options)` in the addon's exports. transport/native.ts has its type.
#pragma once
#include <napi.h>

namespace kvferry {

void init_mover(Napi::Env env, Napi::Object exports);

}  // namespace kvferry
