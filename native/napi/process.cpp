#include "process.h"

#include <sys/syscall.h>
#include <unistd.h>
#include <uv.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

namespace kvferry {
namespace {

// A pidfd becomes readable when its process has ended: told by the kernel, once, and never of another process with the same number.
struct Watch {
  uv_poll_t poll = {};
  int descriptor = -1;
  Napi::FunctionReference on_gone;
  bool closed = false;

  void close() {
    if (closed) return;
    closed = true;
    uv_poll_stop(&poll);
    uv_close(reinterpret_cast<uv_handle_t*>(&poll), [](uv_handle_t* handle) {
      auto* watch = static_cast<Watch*>(handle->data);
      ::close(watch->descriptor);
      delete watch;
    });
  }
};

void on_readable(uv_poll_t* poll, int, int) {
  auto* watch = static_cast<Watch*>(poll->data);
  if (watch->closed) return;
  uv_poll_stop(poll);
  Napi::Env env = watch->on_gone.Env();
  const Napi::HandleScope scope(env);
  // Taken out first: the callback may close the watch.
  const Napi::Function on_gone = watch->on_gone.Value();
  napi_value result, error;
  const napi_status status = napi_make_callback(env, nullptr, env.Global(), on_gone, 0, nullptr, &result);
  // What the callback throws is nobody's to catch: it ends the process as any uncaught exception does.
  if (status == napi_pending_exception && napi_get_and_clear_last_exception(env, &error) == napi_ok) napi_fatal_exception(env, error);
}

Napi::Value watch_process(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const auto fail = [&](const std::string& message) {
    Napi::Error::New(env, message).ThrowAsJavaScriptException();
    return env.Undefined();
  };
  if (!info[0].IsNumber() || !info[1].IsFunction()) return fail("expected a process id and a function");
  const int descriptor = int(syscall(SYS_pidfd_open, info[0].As<Napi::Number>().Int32Value(), 0));
  if (descriptor < 0) return fail(std::string("pidfd_open: ") + strerror(errno));
  uv_loop_t* loop = nullptr;
  auto* watch = new Watch;
  watch->descriptor = descriptor;
  watch->poll.data = watch;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok || uv_poll_init(loop, &watch->poll, descriptor) != 0) {
    ::close(descriptor);
    delete watch;
    return fail("the event loop cannot watch a process");
  }
  watch->on_gone = Napi::Persistent(info[1].As<Napi::Function>());
  if (uv_poll_start(&watch->poll, UV_READABLE, on_readable) != 0) {
    watch->close();
    return fail("the event loop cannot watch a process");
  }
  // A process that is only watched keeps nobody alive.
  uv_unref(reinterpret_cast<uv_handle_t*>(&watch->poll));
  // Shared with the hook of the environment's end: whichever comes first closes the watch.
  auto open = std::make_shared<Watch*>(watch);
  const auto end = [open] {
    if (Watch* still = std::exchange(*open, nullptr)) {
      still->on_gone.Reset();
      still->close();
    }
  };
  auto hook = env.AddCleanupHook(end);
  const auto close = [open, end, hook](const Napi::CallbackInfo& call) mutable {
    if (*open == nullptr) return;
    hook.Remove(call.Env());
    end();
  };
  return Napi::Function::New(env, close, "close");
}

}  // namespace

void init_process(Napi::Env env, Napi::Object exports) {
  exports.Set("watchProcess", Napi::Function::New(env, watch_process, "watchProcess"));
}

}  // namespace kvferry
