// Accepts sockets and reads their preambles, which tell control connections from lanes.
#pragma once
#include <array>

#include "../core/frame.h"
#include "channel.h"

namespace kvferry {

class TcpMover;

class Listener : public Channel {
 public:
  Listener(Poller& poller, TcpMover& mover, int fd);
  void on_attached() override;
  void on_ready(uint32_t epoll_events) override;
  void on_requests(uint32_t) override {}
  void on_deadline() override;

 private:
  TcpMover& mover_;
};

class Greeting : public Channel {
 public:
  Greeting(Poller& poller, TcpMover& mover, int fd);
  void on_attached() override;
  void on_ready(uint32_t epoll_events) override;
  // The token of a lane that waited is known now.
  void on_requests(uint32_t requests) override;
  void on_deadline() override;

 private:
  void close();
  void admit();

  TcpMover& mover_;
  std::array<uint8_t, kPreambleBytes> bytes_;
  size_t have_ = 0;
  bool held_ = false;  // a lane that came before the Hello that brings its token was judged
};

}  // namespace kvferry
