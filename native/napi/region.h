// The JavaScript face of regions: makePoolRegion, attachRegion, borrowRegion in the addon's exports.
#pragma once
#include <napi.h>

namespace kvferry {

void init_region(Napi::Env env, Napi::Object exports);

}  // namespace kvferry
