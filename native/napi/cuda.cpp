#include "cuda.h"

#include "../cuda/driver.h"
#include "../cuda/nvcomp.h"

namespace kvferry {
namespace {

// The driver is opened when this is first called, not when the addon is loaded: that takes time and memory on a host with GPUs.
Napi::Value info_of(const Napi::CallbackInfo& info) {
  const cuda::DriverInfo& found = cuda::driver_info();
  const Napi::Env env = info.Env();
  Napi::Object value = Napi::Object::New(env);
  value.Set("problem", found.problem);
  value.Set("version", found.version);
  value.Set("kernelBytes", double(cuda::kernel_image().bytes));
  Napi::Object nvcomp = Napi::Object::New(env);
  nvcomp.Set("version", cuda::nvcomp_info().version);
  nvcomp.Set("problem", cuda::nvcomp_info().problem);
  value.Set("nvcomp", nvcomp);
  Napi::Array gpus = Napi::Array::New(env);
  for (const cuda::GpuInfo& gpu : found.gpus) {
    Napi::Object one = Napi::Object::New(env);
    one.Set("name", gpu.name);
    one.Set("capability", std::to_string(gpu.major) + "." + std::to_string(gpu.minor));
    one.Set("multiprocessors", gpu.multiprocessors);
    one.Set("bytes", double(gpu.bytes));
    gpus.Set(gpus.Length(), one);
  }
  value.Set("gpus", gpus);
  return value;
}

}  // namespace

void init_cuda(Napi::Env env, Napi::Object exports) { exports.Set("cuda", Napi::Function::New(env, info_of, "cuda")); }

}  // namespace kvferry
