// One call into JavaScript for everything that happened since the last: a uv_async with a function behind it. Keeps the event loop alive until closed.
#pragma once
#include <node_api.h>

#include <functional>

namespace kvferry {

class Wake {
 public:
  // `cleanup` is called when the environment ends and `close` has not been; it must call `close`. nullptr: no handle to be had.
  static Wake* open(napi_env env, napi_value callback, std::function<void()> cleanup);
  // Any thread, until `close`.
  void call();
  // JavaScript thread, once, when no thread can call any more. Frees itself later.
  void close();

 private:
  struct State;
  explicit Wake(State* state) : state_(state) {}
  State* state_;
};

}  // namespace kvferry
