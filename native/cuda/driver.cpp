#include "driver.h"

#include <dlfcn.h>

#include "kernels.h"

// Between them lie the kernels: native/build.mjs makes the file that says where.
extern "C" const uint8_t kvferry_kernels_begin[] __attribute__((visibility("hidden")));
extern "C" const uint8_t kvferry_kernels_end[] __attribute__((visibility("hidden")));

namespace kvferry::cuda {
namespace {

// Of cuda.h, whose stable part this is.
using Result = int;
using Handle = void*;
using Address = unsigned long long;
constexpr Result kOk = 0;
constexpr int kMultiprocessors = 16, kMajor = 75, kMinor = 76;  // attributes of a device
constexpr int kSharedBytesMax = 8;                              // and of a function
constexpr unsigned kNonBlocking = 1;

#define KVFERRY_DRIVER(CALL)                                                                      \
  CALL(init, "cuInit", (unsigned))                                                                \
  CALL(version, "cuDriverGetVersion", (int*))                                                     \
  CALL(count, "cuDeviceGetCount", (int*))                                                         \
  CALL(device, "cuDeviceGet", (int*, int))                                                        \
  CALL(name, "cuDeviceGetName", (char*, int, int))                                                \
  CALL(total, "cuDeviceTotalMem_v2", (size_t*, int))                                              \
  CALL(attribute, "cuDeviceGetAttribute", (int*, int, int))                                       \
  CALL(retain, "cuDevicePrimaryCtxRetain", (Handle*, int))                                        \
  CALL(let_go, "cuDevicePrimaryCtxRelease_v2", (int))                                             \
  CALL(push, "cuCtxPushCurrent_v2", (Handle))                                                     \
  CALL(pop, "cuCtxPopCurrent_v2", (Handle*))                                                      \
  CALL(load, "cuModuleLoadData", (Handle*, const void*))                                          \
  CALL(unload, "cuModuleUnload", (Handle))                                                        \
  CALL(function, "cuModuleGetFunction", (Handle*, Handle, const char*))                           \
  CALL(set_function, "cuFuncSetAttribute", (Handle, int, int))                                    \
  CALL(make_stream, "cuStreamCreate", (Handle*, unsigned))                                        \
  CALL(end_stream, "cuStreamDestroy_v2", (Handle))                                                \
  CALL(synchronize, "cuStreamSynchronize", (Handle))                                              \
  CALL(allocate, "cuMemAlloc_v2", (Address*, size_t))                                             \
  CALL(release, "cuMemFree_v2", (Address))                                                        \
  CALL(available, "cuMemGetInfo_v2", (size_t*, size_t*))                                          \
  CALL(upload, "cuMemcpyHtoDAsync_v2", (Address, const void*, size_t, Handle))                    \
  CALL(download, "cuMemcpyDtoHAsync_v2", (void*, Address, size_t, Handle))                        \
  CALL(copy, "cuMemcpyDtoDAsync_v2", (Address, Address, size_t, Handle))                          \
  CALL(launch, "cuLaunchKernel",                                                                  \
       (Handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, Handle, void**, void**)) \
  CALL(make_event, "cuEventCreate", (Handle*, unsigned))                                          \
  CALL(end_event, "cuEventDestroy_v2", (Handle))                                                  \
  CALL(record, "cuEventRecord", (Handle, Handle))                                                 \
  CALL(await_event, "cuEventSynchronize", (Handle))                                               \
  CALL(elapsed, "cuEventElapsedTime", (float*, Handle, Handle))                                   \
  CALL(explain, "cuGetErrorString", (Result, const char**))

struct Driver {
#define KVFERRY_POINTER(member, name, parameters) Result(*member) parameters = nullptr;
  KVFERRY_DRIVER(KVFERRY_POINTER)
#undef KVFERRY_POINTER
  std::string problem;

  Driver() {
    void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      const char* reason = dlerror();
      problem = reason == nullptr ? "libcuda.so.1 does not load" : reason;
      return;
    }
#define KVFERRY_BIND(member, name, parameters)                    \
  member = reinterpret_cast<decltype(member)>(dlsym(library, name)); \
  if (member == nullptr) problem = "libcuda.so.1 has no " name;
    KVFERRY_DRIVER(KVFERRY_BIND)
#undef KVFERRY_BIND
    if (problem.empty()) check(init(0), "cuInit", &problem);
  }

  // False, and in words what failed first.
  bool check(Result result, const char* what, std::string* failed) const {
    if (result == kOk) return true;
    const char* reason = nullptr;
    if (explain(result, &reason) != kOk || reason == nullptr) reason = "an error without a name";
    if (failed->empty()) *failed = std::string(what) + ": " + reason + " (" + std::to_string(result) + ")";
    return false;
  }
};

const Driver& driver() {
  static const Driver opened;
  return opened;
}

DriverInfo ask() {
  DriverInfo info;
  info.problem = driver().problem;
  if (!info.problem.empty()) return info;
  int version = 0, count = 0;
  driver().check(driver().version(&version), "cuDriverGetVersion", &info.problem);
  driver().check(driver().count(&count), "cuDeviceGetCount", &info.problem);
  info.version = uint32_t(version);
  for (int index = 0; index < count; index++) {
    int device = 0, major = 0, minor = 0, multiprocessors = 0;
    char name[256] = {};
    size_t bytes = 0;
    bool is_there = driver().check(driver().device(&device, index), "cuDeviceGet", &info.problem);
    is_there = is_there && driver().check(driver().name(name, sizeof name - 1, device), "cuDeviceGetName", &info.problem);
    is_there = is_there && driver().check(driver().total(&bytes, device), "cuDeviceTotalMem", &info.problem);
    is_there = is_there && driver().attribute(&major, kMajor, device) == kOk && driver().attribute(&minor, kMinor, device) == kOk;
    is_there = is_there && driver().attribute(&multiprocessors, kMultiprocessors, device) == kOk;
    if (is_there) info.gpus.push_back({name, uint32_t(major), uint32_t(minor), uint32_t(multiprocessors), bytes});
  }
  if (info.problem.empty() && info.gpus.empty()) info.problem = "the driver finds no GPU";
  if (info.problem.empty() && kernel_image().bytes == 0) info.problem = "this build has no kernels: nvcc was not there";
  return info;
}

// The context is current on the calling thread for as long as this lives, whatever was before it.
class Current {
 public:
  explicit Current(Handle context) : is_pushed_(driver().push(context) == kOk) {}
  ~Current() {
    Handle popped;
    if (is_pushed_) driver().pop(&popped);
  }
  Current(const Current&) = delete;
  Current& operator=(const Current&) = delete;

 private:
  const bool is_pushed_;
};

constexpr const char* kNames[] = {
#define KVFERRY_NAME(name, Arguments, threads) "kvferry_" #name,
    KVFERRY_KERNELS(KVFERRY_NAME)
#undef KVFERRY_NAME
};
constexpr uint32_t kThreads[] = {
#define KVFERRY_THREADS(name, Arguments, threads) threads,
    KVFERRY_KERNELS(KVFERRY_THREADS)
#undef KVFERRY_THREADS
};
constexpr size_t kKernels = size_t(Kernel::count);
// More than that has to be asked for.
constexpr uint32_t kSharedBytesPlain = 48 << 10;

Address address_of_memory(const void* memory) { return Address(reinterpret_cast<uintptr_t>(memory)); }

class DriverGpu : public Gpu {
 public:
  explicit DriverGpu(int device) : device_(device) {
    const Driver& d = driver();
    if (!d.check(d.retain(&context_, device), "cuDevicePrimaryCtxRetain", &problem_)) return;
    const Current current(context_);
    d.check(d.make_stream(&stream_, kNonBlocking), "cuStreamCreate", &problem_);
    for (Handle& event : events_) d.check(d.make_event(&event, 0), "cuEventCreate", &problem_);
    if (!d.check(d.load(&module_, kernel_image().data), "cuModuleLoadData", &problem_)) return;
    for (size_t kernel = 0; kernel < kKernels; kernel++) d.check(d.function(&functions_[kernel], module_, kNames[kernel]), kNames[kernel], &problem_);
  }
  ~DriverGpu() override {
    if (context_ == nullptr) return;
    const Driver& d = driver();
    {
      const Current current(context_);
      if (stream_ != nullptr) d.synchronize(stream_), d.end_stream(stream_);
      for (Handle event : events_) {
        if (event != nullptr) d.end_event(event);
      }
      if (module_ != nullptr) d.unload(module_);
    }
    d.let_go(device_);
  }
  const std::string& problem() const { return problem_; }

  uint8_t* allocate(size_t bytes) override {
    const Current current(context_);
    Address address = 0;
    if (!driver().check(driver().allocate(&address, bytes), "cuMemAlloc", &problem_)) return nullptr;
    return reinterpret_cast<uint8_t*>(uintptr_t(address));
  }
  // Nobody may still use it: what was launched has been waited for.
  void release(uint8_t* memory) override {
    const Current current(context_);
    driver().check(driver().synchronize(stream_), "cuStreamSynchronize", &problem_);
    driver().check(driver().release(address_of_memory(memory)), "cuMemFree", &problem_);
  }
  void upload(uint8_t* to, const void* from, size_t bytes) override {
    if (bytes == 0 || !problem_.empty()) return;
    const Current current(context_);
    driver().check(driver().upload(address_of_memory(to), from, bytes, stream_), "cuMemcpyHtoDAsync", &problem_);
    driver().check(driver().synchronize(stream_), "cuStreamSynchronize", &problem_);
  }
  void download(void* to, const uint8_t* from, size_t bytes) override {
    if (bytes == 0 || !problem_.empty()) return;
    const Current current(context_);
    driver().check(driver().download(to, address_of_memory(from), bytes, stream_), "cuMemcpyDtoHAsync", &problem_);
    driver().check(driver().synchronize(stream_), "cuStreamSynchronize", &problem_);
  }
  void copy(uint8_t* to, const uint8_t* from, size_t bytes) override {
    if (bytes == 0 || !problem_.empty()) return;
    const Current current(context_);
    driver().check(driver().copy(address_of_memory(to), address_of_memory(from), bytes, stream_), "cuMemcpyDtoDAsync", &problem_);
  }
  void launch(Kernel kernel, const Grid& grid, const void* arguments) override {
    if (!problem_.empty()) return;
    const Current current(context_);
    const Handle function = functions_[size_t(kernel)];
    const char* name = kNames[size_t(kernel)];
    if (grid.shared_bytes > kSharedBytesPlain) {
      driver().check(driver().set_function(function, kSharedBytesMax, int(grid.shared_bytes)), name, &problem_);
    }
    void* parameters[] = {const_cast<void*>(arguments)};
    const unsigned threads = kThreads[size_t(kernel)];
    const Result result = driver().launch(function, grid.x, grid.y, 1, threads, 1, 1, grid.shared_bytes, stream_, parameters, nullptr);
    driver().check(result, name, &problem_);
  }
  void with_stream(const std::function<void(void*)>& body) override {
    if (!problem_.empty()) return;
    const Current current(context_);
    body(stream_);
  }
  std::string wait() override {
    const Current current(context_);
    driver().check(driver().synchronize(stream_), "cuStreamSynchronize", &problem_);
    return problem_;
  }
  void mark(uint32_t which) override {
    const Current current(context_);
    driver().check(driver().record(events_[which & 1], stream_), "cuEventRecord", &problem_);
  }
  double milliseconds() override {
    const Current current(context_);
    float elapsed = 0;
    driver().check(driver().await_event(events_[1]), "cuEventSynchronize", &problem_);
    driver().check(driver().elapsed(&elapsed, events_[0], events_[1]), "cuEventElapsedTime", &problem_);
    return double(elapsed);
  }
  uint64_t free_bytes() override {
    const Current current(context_);
    size_t available = 0, total = 0;
    driver().check(driver().available(&available, &total), "cuMemGetInfo", &problem_);
    return available;
  }

 private:
  const int device_;
  Handle context_ = nullptr, stream_ = nullptr, module_ = nullptr;
  Handle functions_[kKernels] = {}, events_[2] = {};
  std::string problem_;
};

}  // namespace

const DriverInfo& driver_info() {
  static const DriverInfo info = ask();
  return info;
}

KernelImage kernel_image() { return {kvferry_kernels_begin, size_t(kvferry_kernels_end - kvferry_kernels_begin)}; }

std::unique_ptr<Gpu> open_gpu(uint32_t index, std::string* problem) {
  *problem = driver_info().problem;
  if (!problem->empty()) return nullptr;
  int device = 0;
  if (!driver().check(driver().device(&device, int(index)), "cuDeviceGet", problem)) return nullptr;
  auto gpu = std::make_unique<DriverGpu>(device);
  *problem = gpu->problem();
  if (!problem->empty()) return nullptr;
  return gpu;
}

}  // namespace kvferry::cuda
