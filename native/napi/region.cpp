#include "region.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../core/region.h"

namespace kvferry {
namespace {

constexpr const char* kNoExternalMemory = "this runtime cannot show mapped memory to JavaScript";

// Borrowed memory is held by a reference as long as any thread may touch it. References can only be let go on the JavaScript
// thread, so those of closed regions wait here until the region is gone, and are swept whenever a region is made or closed.
struct Borrowed {
  std::weak_ptr<Region> region;
  Napi::Reference<Napi::Uint8Array> memory;
};
struct Environment {
  std::vector<Borrowed> waiting;
  void sweep() {
    std::erase_if(waiting, [](Borrowed& borrowed) { return borrowed.region.expired(); });
  }
};

Environment& environment(Napi::Env env) { return *env.GetInstanceData<Environment>(); }

void throw_error(Napi::Env env, const std::string& message) { Napi::Error::New(env, message).ThrowAsJavaScriptException(); }

// Memory of a mapping as an ArrayBuffer that keeps it mapped for as long as somebody holds it, closed or not.
Napi::Value memory_of(Napi::Env env, const Region& region) {
  auto* keep = new std::shared_ptr<Mapping>(region.mapping);
  const auto release = [](napi_env, void*, void* kept) { delete static_cast<std::shared_ptr<Mapping>*>(kept); };
  napi_value memory;
  if (napi_create_external_arraybuffer(env, region.base, region.bytes, release, keep, &memory) == napi_ok) return Napi::Value(env, memory);
  delete keep;
  return Napi::Value();
}

// What JavaScript gets: numbers, a view, and close(). An empty value: this runtime has no memory of that kind (Electron has not).
Napi::Value handle_of(Napi::Env env, std::shared_ptr<Region> region) {
  Napi::Object handle = Napi::Object::New(env);
  if (region->mapping != nullptr) {
    const Napi::Value memory = memory_of(env, *region);
    if (memory.IsEmpty()) return Napi::Value();
    handle.Set("memory", memory);
  }
  enroll_region(region);
  const uint32_t id = region->id;
  handle.Set("id", id);
  handle.Set("bytes", double(region->bytes));
  handle.Set("path", region->path);
  handle.Set("hugePages", region->huge_pages);
  handle.Set("numaNode", region->numa_node);
  const auto close = [id](const Napi::CallbackInfo& info) {
    retire_region(id);
    environment(info.Env()).sweep();
  };
  handle.Set("close", Napi::Function::New(env, close, "close"));
  // A handle that is forgotten is closed with it.
  handle.AddFinalizer([](Napi::Env, uint32_t* number) {
    retire_region(*number);
    delete number;
  }, new uint32_t(id));
  return handle;
}

// False in an environment that is ending (a worker that was terminated): it takes back what it gave out, but runs nothing any more.
bool can_run(Napi::Env env) {
  napi_value object;
  return napi_create_object(env, &object) == napi_ok && napi_set_named_property(env, object, "it", object) == napi_ok;
}

using Make = std::function<std::shared_ptr<Region>(std::string* problem)>;

// Backing a region takes long: it is done in libuv's threads.
class MakeRegion : public Napi::AsyncWorker {
 public:
  MakeRegion(Napi::Env env, Make make) : AsyncWorker(env, "kvferry.region"), make_(std::move(make)), deferred_(env) {}
  Napi::Promise promise() const { return deferred_.Promise(); }
  void Execute() override {
    region_ = make_(&problem_);
  }
  void OnOK() override {
    if (!can_run(Env())) return;
    const Napi::Value handle = region_ == nullptr ? Napi::Value() : handle_of(Env(), std::move(region_));
    if (!handle.IsEmpty()) return deferred_.Resolve(handle);
    deferred_.Reject(Napi::Error::New(Env(), problem_.empty() ? kNoExternalMemory : problem_).Value());
  }

 private:
  Make make_;
  std::string problem_;
  std::shared_ptr<Region> region_;
  Napi::Promise::Deferred deferred_;
};

Napi::Value make_later(Napi::Env env, Make make) {
  auto* work = new MakeRegion(env, std::move(make));
  work->Queue();
  return work->promise();
}

// A path as the system takes it: absolute, and not cut short by a zero in it. False: it is none.
bool read_path(const Napi::Value& value, std::string* path) {
  if (!value.IsString()) return false;
  *path = value.As<Napi::String>().Utf8Value();
  return !path->empty() && path->front() == '/' && path->find('\0') == std::string::npos;
}

// path, bytes, huge pages (0 off, 1 auto, 2 on), NUMA node or -1. transport/memory/region.ts has checked them.
Napi::Value make_pool(const Napi::CallbackInfo& info) {
  PoolFile file = {};
  const bool right = read_path(info[0], &file.path) && info[1].IsNumber() && info[2].IsNumber() && info[3].IsNumber();
  if (!right || info[1].As<Napi::Number>().Int64Value() <= 0) {
    throw_error(info.Env(), "expected path, bytes, hugePages, numaNode");
    return info.Env().Undefined();
  }
  file.bytes = uint64_t(info[1].As<Napi::Number>().Int64Value());
  file.huge_pages = HugePages(std::min(info[2].As<Napi::Number>().Uint32Value(), 2u));
  file.numa_node = info[3].As<Napi::Number>().Int32Value();
  return make_later(info.Env(), [file = std::move(file)](std::string* problem) { return make_pool_region(file, problem); });
}

bool read_bytes(const Napi::Value& value, uint64_t* bytes) {
  if (!value.IsNumber() || value.As<Napi::Number>().Int64Value() <= 0) return false;
  *bytes = uint64_t(value.As<Napi::Number>().Int64Value());
  return true;
}

Napi::Value make_buffer(const Napi::CallbackInfo& info) {
  uint64_t bytes;
  if (read_bytes(info[0], &bytes)) return make_later(info.Env(), [bytes](std::string* problem) { return make_buffer_region(bytes, problem); });
  throw_error(info.Env(), "expected bytes");
  return info.Env().Undefined();
}

// path, bytes, and for a pool whether it is mapped read-only
template <bool kBuffer>
Napi::Value attach(const Napi::CallbackInfo& info) {
  std::string path;
  uint64_t bytes;
  if (!read_path(info[0], &path) || !read_bytes(info[1], &bytes)) {
    throw_error(info.Env(), "expected path, bytes");
    return info.Env().Undefined();
  }
  std::string problem;
  auto region = kBuffer ? attach_buffer_region(path, bytes, &problem) : attach_region(path, bytes, info[2].ToBoolean(), &problem);
  if (region == nullptr) {
    throw_error(info.Env(), problem);
    return info.Env().Undefined();
  }
  const Napi::Value handle = handle_of(info.Env(), std::move(region));
  if (!handle.IsEmpty()) return handle;
  throw_error(info.Env(), kNoExternalMemory);
  return info.Env().Undefined();
}

Napi::Value borrow(const Napi::CallbackInfo& info) {
  const bool bytes = info[0].IsTypedArray() && info[0].As<Napi::TypedArray>().TypedArrayType() == napi_uint8_array;
  if (!bytes || info[0].As<Napi::Uint8Array>().ByteLength() == 0) {
    throw_error(info.Env(), "expected a Uint8Array that is not empty");
    return info.Env().Undefined();
  }
  auto memory = info[0].As<Napi::Uint8Array>();
  auto region = borrow_region(memory.Data(), memory.ByteLength());
  Environment& env = environment(info.Env());
  env.sweep();
  env.waiting.push_back({region, Napi::Persistent(memory)});
  return handle_of(info.Env(), std::move(region));
}

}  // namespace

void init_region(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new Environment);
  exports.Set("makePoolRegion", Napi::Function::New(env, make_pool, "makePoolRegion"));
  exports.Set("makeBufferRegion", Napi::Function::New(env, make_buffer, "makeBufferRegion"));
  exports.Set("attachRegion", Napi::Function::New(env, attach<false>, "attachRegion"));
  exports.Set("attachBufferRegion", Napi::Function::New(env, attach<true>, "attachBufferRegion"));
  exports.Set("borrowRegion", Napi::Function::New(env, borrow, "borrowRegion"));
}

}  // namespace kvferry
