#include "jobs.h"

#include <memory>
#include <utility>
#include <vector>

#include "../core/jobs.h"
#include "planes.h"
#include "wake.h"

namespace kvferry {
namespace {

class NativeJobs : public Napi::ObjectWrap<NativeJobs> {
 public:
  static void define(Napi::Env env, Napi::Object exports) {
    exports.Set("NativeJobs", DefineClass(env, "NativeJobs",
                                          {
                                              InstanceMethod("checksum", &NativeJobs::checksum),
                                              InstanceMethod("copy", &NativeJobs::copy),
                                              InstanceMethod("collect", &NativeJobs::collect),
                                              InstanceMethod("close", &NativeJobs::close),
                                          }));
  }

  explicit NativeJobs(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    if (!info[0].IsNumber() || !info[1].IsNumber() || !info[2].IsFunction()) {
      refuse(info.Env(), "expected threads, queueJobs, onWake");
      return;
    }
    wake_ = Wake::open(info.Env(), info[2], [this] { end(); });
    if (wake_ == nullptr) {
      refuse(info.Env(), "the event loop has no room");
      return;
    }
    jobs_ = std::make_unique<Jobs>(info[1].As<Napi::Number>().Uint32Value(), [this] { wake_->call(); });
    if (jobs_->start(info[0].As<Napi::Number>().Uint32Value())) return;
    end();
    refuse(info.Env(), "the host has no threads left");
  }
  ~NativeJobs() override { end(); }

 private:
  static void refuse(Napi::Env env, const char* message) { Napi::Error::New(env, message).ThrowAsJavaScriptException(); }

  // id, region, planes, blocks -> taken
  Napi::Value checksum(const Napi::CallbackInfo& info) {
    Job job = {};
    if (!read_stream(info, 1, &job.from)) return info.Env().Undefined();
    return submit(info, std::move(job));
  }

  // id, region, planes, blocks, region, planes, blocks -> taken
  Napi::Value copy(const Napi::CallbackInfo& info) {
    Job job = {};
    if (!read_stream(info, 1, &job.from) || !read_stream(info, 4, &job.to)) return info.Env().Undefined();
    return submit(info, std::move(job));
  }

  Napi::Value submit(const Napi::CallbackInfo& info, Job job) {
    if (!info[0].IsNumber()) {
      refuse(info.Env(), "expected a number to tell the job by");
      return info.Env().Undefined();
    }
    job.id = info[0].As<Napi::Number>().Uint32Value();
    if (!job_fits(job)) {
      refuse(info.Env(), "planes leave their region, streams differ in length, or a checksum begins inside a block");
      return info.Env().Undefined();
    }
    return Napi::Boolean::New(info.Env(), jobs_ != nullptr && jobs_->submit(std::move(job)));
  }

  bool read_stream(const Napi::CallbackInfo& info, size_t index, Stream* stream) {
    stream->region = info[index].IsNumber() ? region_of(info[index].As<Napi::Number>().Uint32Value()) : nullptr;
    const bool blocks = info[index + 2].IsTypedArray() && info[index + 2].As<Napi::TypedArray>().TypedArrayType() == napi_uint32_array;
    if (stream->region == nullptr || !planes_of(info[index + 1], &stream->planes) || !blocks) {
      refuse(info.Env(), "expected an open region, planes and blocks");
      return false;
    }
    const auto list = info[index + 2].As<Napi::Uint32Array>();
    stream->blocks.assign(list.Data(), list.Data() + list.ElementLength());
    return true;
  }

  // -> [id, checksums, id, checksums ...]
  Napi::Value collect(const Napi::CallbackInfo& info) {
    const std::vector<JobResult> results = jobs_ == nullptr ? std::vector<JobResult>() : jobs_->collect();
    Napi::Array array = Napi::Array::New(info.Env(), results.size() * 2);
    uint32_t at = 0;
    for (const JobResult& result : results) {
      auto checksums = Napi::Uint32Array::New(info.Env(), result.checksums.size());
      std::copy(result.checksums.begin(), result.checksums.end(), checksums.Data());
      array.Set(at++, Napi::Number::New(info.Env(), result.id));
      array.Set(at++, checksums);
    }
    return array;
  }

  void close(const Napi::CallbackInfo&) { end(); }

  void end() {
    if (jobs_ != nullptr) jobs_->close();
    if (Wake* wake = std::exchange(wake_, nullptr)) wake->close();
  }

  Wake* wake_ = nullptr;
  std::unique_ptr<Jobs> jobs_;
};

}  // namespace

void init_jobs(Napi::Env env, Napi::Object exports) { NativeJobs::define(env, exports); }

}  // namespace kvferry
