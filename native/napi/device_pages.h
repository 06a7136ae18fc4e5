// Paged KV as it crosses the boundary to devices; transport/native-device.ts has its fields.
#pragma once
#include <napi.h>

#include <string>
#include <vector>

#include "../codec/spec.h"
#include "../cuda/codec.h"

namespace kvferry {

// Pages of a call, checked: no tile leaves them.
struct Pages {
  uint8_t* memory = nullptr;
  size_t bytes = 0;
  std::vector<Plane> planes;
  std::vector<std::vector<uint32_t>> lists;
  std::vector<cuda::TileSpan> spans;
  uint32_t tokens_most = 0;
};

bool is_array(const Napi::Value& value, napi_typedarray_type type);
// "" or what is wrong with memory, planes, lists and tiles, which come in this order.
std::string read_pages(const Napi::CallbackInfo& info, size_t index, const codec::Spec& spec, Pages* pages);
// Throws an Error with that code.
void fail_with(Napi::Env env, const char* code, const std::string& message);

}  // namespace kvferry
