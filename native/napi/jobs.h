// The JavaScript face of jobs: `new NativeJobs(threads, queueJobs, onWake)` in the addon's exports.
#pragma once
#include <napi.h>

namespace kvferry {

void init_jobs(Napi::Env env, Napi::Object exports);

}  // namespace kvferry
