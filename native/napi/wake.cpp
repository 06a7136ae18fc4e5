#include "wake.h"

#include <uv.h>

#include <utility>

namespace kvferry {

struct Wake::State {
  uv_async_t async = {};
  napi_env env = nullptr;
  napi_ref callback = nullptr;
  napi_async_context context = nullptr;
  napi_async_cleanup_hook_handle hook = nullptr;
  std::function<void()> cleanup;
  Wake* owner = nullptr;
};

namespace {

void run_callback(napi_env env, napi_ref callback, napi_async_context context) {
  napi_handle_scope scope;
  if (napi_open_handle_scope(env, &scope) != napi_ok) return;
  napi_value function, receiver, result;
  if (napi_get_reference_value(env, callback, &function) == napi_ok && napi_get_global(env, &receiver) == napi_ok) {
    const napi_status status = napi_make_callback(env, context, receiver, function, 0, nullptr, &result);
    // What the callback throws is nobody's to catch: it ends the process as any uncaught exception does. A worker that is being
    // terminated says `pending`, but there is nothing.
    bool is_pending = false;
    napi_value error;
    if (status == napi_pending_exception && napi_is_exception_pending(env, &is_pending) == napi_ok && is_pending &&
        napi_get_and_clear_last_exception(env, &error) == napi_ok) {
      napi_fatal_exception(env, error);
    }
  }
  napi_close_handle_scope(env, scope);
}

}  // namespace

Wake* Wake::open(napi_env env, napi_value callback, std::function<void()> cleanup) {
  uv_loop_t* loop = nullptr;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) return nullptr;
  auto* state = new State;
  state->env = env;
  state->cleanup = std::move(cleanup);
  state->async.data = state;
  const auto on_async = [](uv_async_t* async) {
    auto* state = static_cast<State*>(async->data);
    if (state->callback != nullptr) run_callback(state->env, state->callback, state->context);
  };
  if (uv_async_init(loop, &state->async, on_async) != 0) {
    delete state;
    return nullptr;
  }
  napi_value name;
  napi_create_string_utf8(env, "kvferry", NAPI_AUTO_LENGTH, &name);
  napi_async_init(env, nullptr, name, &state->context);
  napi_create_reference(env, callback, 1, &state->callback);
  const auto on_cleanup = [](napi_async_cleanup_hook_handle, void* data) {
    auto* state = static_cast<State*>(data);
    // Moved out first: `close` is what it leads to. Already closing: the handle's own callback finishes it.
    if (std::function<void()> cleanup = std::move(state->cleanup)) cleanup();
  };
  napi_add_async_cleanup_hook(env, on_cleanup, state, &state->hook);
  state->owner = new Wake(state);
  return state->owner;
}

void Wake::call() { uv_async_send(&state_->async); }

void Wake::close() {
  State* state = state_;
  state->cleanup = nullptr;
  napi_delete_reference(state->env, state->callback);
  state->callback = nullptr;
  napi_async_destroy(state->env, state->context);
  uv_close(reinterpret_cast<uv_handle_t*>(&state->async), [](uv_handle_t* handle) {
    auto* state = static_cast<State*>(handle->data);
    if (state->hook != nullptr) napi_remove_async_cleanup_hook(state->hook);
    delete state->owner;
    delete state;
  });
}

}  // namespace kvferry
