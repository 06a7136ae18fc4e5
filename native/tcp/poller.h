// One thread, one epoll set, the channels given to it for life.
#pragma once
#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "../core/events.h"
#include "channel.h"

namespace kvferry {

class Poller {
 public:
  Poller() = default;
  ~Poller();
  // False: the kernel has no descriptors or threads left. `events` are served between turns.
  bool start(uint32_t index, EventQueue* events);
  // Ends the thread; then `clear` frees all channels on the calling thread. Both idempotent.
  void join();
  void clear();

  // Any thread.
  void attach(std::shared_ptr<Channel> channel);
  void post(std::shared_ptr<Channel> channel);
  // All channels that wait for an event reservation get request::kRead.
  void refill();

  // The interest of a socket may be changed by any thread that has the right to (a lane's send_mutex_).
  bool watch(Channel& channel, int fd, uint32_t epoll_events);
  void change(Channel& channel, int fd, uint32_t epoll_events);

  // Poller's thread.
  void unwatch(int fd);
  void retire(Channel& channel);
  void set_deadline(Channel& channel, uint64_t at_us);  // 0: none
  void wait_for_room(Channel& channel);
  // Thrown-away payload lands here.
  uint8_t* sink() { return sink_.data(); }
  static constexpr size_t kSinkBytes = 256 << 10;

 private:
  static void* main(void* poller);
  void run();
  int timeout_ms(int most_ms) const;
  void serve_posts();
  void serve_deadlines();
  void wake();

  int epoll_fd_ = -1;
  int wake_fd_ = -1;
  EventQueue* events_ = nullptr;
  pthread_t thread_ = {};
  bool running_ = false;
  std::atomic<bool> stopping_{false};
  std::vector<uint8_t> sink_;

  std::mutex posts_mutex_;
  std::vector<std::shared_ptr<Channel>> attached_;
  std::vector<std::shared_ptr<Channel>> posted_;
  bool refill_ = false;
  bool awake_ = false;  // a wake-up is under way or not needed

  // The thread's own.
  std::vector<std::shared_ptr<Channel>> attaching_, serving_, retired_;
  std::unordered_map<Channel*, std::shared_ptr<Channel>> channels_;
  std::vector<Channel*> timed_, waiting_;
};

}  // namespace kvferry
