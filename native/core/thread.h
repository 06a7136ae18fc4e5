// A thread whose creation may fail (std::thread would throw) and that takes no signals: those stay with Node's threads.
#pragma once
#include <pthread.h>
#include <signal.h>

#include <functional>
#include <memory>
#include <utility>

namespace kvferry {

class Thread {
 public:
  Thread() = default;
  Thread(const Thread&) = delete;
  Thread& operator=(const Thread&) = delete;
  ~Thread() { join(); }

  // False: the host has no threads left. `name`: 15 characters at most.
  bool start(const char* name, std::function<void()> body) {
    auto owned = std::make_unique<std::function<void()>>(std::move(body));
    const auto main = [](void* argument) -> void* {
      const std::unique_ptr<std::function<void()>> mine(static_cast<std::function<void()>*>(argument));
      (*mine)();
      return nullptr;
    };
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    running_ = pthread_create(&thread_, nullptr, main, owned.get()) == 0;
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (!running_) return false;
    owned.release();
    pthread_setname_np(thread_, name);
    return true;
  }

  // Idempotent.
  void join() {
    if (running_) pthread_join(thread_, nullptr);
    running_ = false;
  }

 private:
  pthread_t thread_ = {};
  bool running_ = false;
};

}  // namespace kvferry
