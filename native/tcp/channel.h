// A socket that a poller looks after. Everything here but `post` happens on the poller's thread.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>

#include "stream.h"

namespace kvferry {

class Poller;

// What other threads may ask of a channel; bits of `post`.
namespace request {
constexpr uint32_t kSend = 1;      // there may be something to send
constexpr uint32_t kLetGo = 2;     // memory was revoked
constexpr uint32_t kRead = 4;      // there is room again for what arrives
constexpr uint32_t kClose = 8;     // close at once
constexpr uint32_t kFinish = 16;   // close when everything is flushed, soon
}  // namespace request

class Channel : public std::enable_shared_from_this<Channel> {
 public:
  explicit Channel(Poller& poller, Stream stream = Stream()) : poller_(poller), stream_(std::move(stream)) {}
  virtual ~Channel() = default;
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  // Any thread; coalesced.
  void post(uint32_t requests);

  virtual void on_attached() = 0;
  virtual void on_ready(uint32_t epoll_events) = 0;
  virtual void on_requests(uint32_t requests) = 0;
  virtual void on_deadline() {}

 protected:
  friend class Poller;
  Poller& poller_;
  Stream stream_;

 private:
  std::atomic<uint32_t> requests_{0};
  bool retired_ = false;
  uint64_t deadline_us_ = 0;  // 0: none
};

}  // namespace kvferry
