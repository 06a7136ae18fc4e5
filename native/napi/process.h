// The JavaScript face of the process watch: `watchProcess(pid, onGone)` in the addon's exports.
#pragma once
#include <napi.h>

namespace kvferry {

void init_process(Napi::Env env, Napi::Object exports);

}  // namespace kvferry
