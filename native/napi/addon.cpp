// The addon's exports. State belongs to the environment: it can be loaded in several threads of one process.
#include <napi.h>

#include <algorithm>
#include <string>
#include <vector>

#include "../core/crc32c.h"
#include "../core/runs.h"
#include "../tcp/tls.h"
#include "codec.h"
#include "codec_coders.h"
#include "codec_merging.h"
#include "cuda.h"
#include "device_codec.h"
#include "jobs.h"
#include "mover.h"
#include "planes.h"
#include "process.h"
#include "region.h"

namespace kvferry {
namespace {

// Grows with every change of the interface that transport/native.ts describes: a stale binary is refused by name.
constexpr uint32_t kAbi = 8;

Napi::Value refuse(Napi::Env env, const char* message) {
  Napi::TypeError::New(env, message).ThrowAsJavaScriptException();
  return env.Undefined();
}

bool is_array_of(const Napi::Value& value, napi_typedarray_type type) {
  return value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == type;
}

// bytes, seed?, name of the implementation?
Napi::Value crc(const Napi::CallbackInfo& info) {
  if (!is_array_of(info[0], napi_uint8_array)) return refuse(info.Env(), "expected a Uint8Array");
  const auto bytes = info[0].As<Napi::Uint8Array>();
  const uint32_t seed = info[1].IsNumber() ? info[1].As<Napi::Number>().Uint32Value() : 0;
  if (!info[2].IsString()) return Napi::Number::New(info.Env(), crc32c(seed, bytes.Data(), bytes.ByteLength()));
  uint32_t result = 0;
  const std::string name = info[2].As<Napi::String>();
  if (!crc32c_by_name(name.c_str(), seed, bytes.Data(), bytes.ByteLength(), &result)) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), result);
}

Napi::Value combine(const Napi::CallbackInfo& info) {
  if (!info[0].IsNumber() || !info[1].IsNumber() || !info[2].IsNumber()) return refuse(info.Env(), "expected three numbers");
  const auto number = [&](size_t index) { return info[index].As<Napi::Number>().Int64Value(); };
  return Napi::Number::New(info.Env(), crc32c_combine(uint32_t(number(0)), uint32_t(number(1)), uint64_t(number(2))));
}

// region bytes, one plane, blocks, start, bytes -> Float64Array of (offset, bytes) runs; undefined if the plane does not fit
Napi::Value runs(const Napi::CallbackInfo& info) {
  std::vector<Plane> planes;
  const bool numbers = info[0].IsNumber() && info[3].IsNumber() && info[4].IsNumber();
  if (!numbers || !planes_of(info[1], &planes) || planes.size() != 1 || !is_array_of(info[2], napi_uint32_array)) {
    return info.Env().Undefined();
  }
  const auto number = [&](size_t index) { return uint64_t(info[index].As<Napi::Number>().Int64Value()); };
  const auto blocks = info[2].As<Napi::Uint32Array>();
  const Plane& plane = planes[0];
  if (!plane_fits(plane, blocks.Data(), blocks.ElementLength(), number(0))) return info.Env().Undefined();
  uint64_t stream;
  if (__builtin_mul_overflow(plane.block_bytes(), uint64_t(blocks.ElementLength()), &stream)) return info.Env().Undefined();
  stream -= plane.first_token * plane.token_bytes();
  const uint64_t start = number(3), bytes = number(4);
  if (start > stream || bytes > stream - start) return info.Env().Undefined();
  RunCursor cursor(plane, blocks.Data(), blocks.ElementLength(), start, bytes);
  std::vector<double> found;
  for (Run run; cursor.next(&run, UINT64_MAX);) found.insert(found.end(), {double(run.offset), double(run.bytes)});
  auto array = Napi::Float64Array::New(info.Env(), found.size());
  std::copy(found.begin(), found.end(), array.Data());
  return array;
}

Napi::Object tls(Napi::Env env) {
  Napi::Object value = Napi::Object::New(env);
  std::string problem;
  value.Set("version", tls_version(&problem));
  value.Set("problem", problem);
  return value;
}

Napi::Array names(Napi::Env env) {
  const std::vector<const char*> found = crc32c_names();
  Napi::Array array = Napi::Array::New(env, found.size());
  for (size_t index = 0; index < found.size(); index++) array.Set(uint32_t(index), found[index]);
  return array;
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  exports.Set("abi", kAbi);
  exports.Set("crc32cName", crc32c_name());
  exports.Set("crc32cNames", names(env));
  exports.Set("tls", tls(env));
  exports.Set("crc32c", Napi::Function::New(env, crc, "crc32c"));
  exports.Set("crc32cCombine", Napi::Function::New(env, combine, "crc32cCombine"));
  exports.Set("runs", Napi::Function::New(env, runs, "runs"));
  init_region(env, exports);
  init_codec(env, exports);
  init_jobs(env, exports);
  init_process(env, exports);
  init_mover(env, exports);
  init_codec_coders(env, exports);
  init_codec_merging(env, exports);
  init_device_codec(env, exports);
  init_cuda(env, exports);
  return exports;
}

NODE_API_MODULE(kvferry, init)

}  // namespace
}  // namespace kvferry
