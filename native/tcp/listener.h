// Accepts sockets, and hands each to a greeting.
#pragma once
#include "channel.h"

namespace kvferry {

class TcpMover;

class Listener : public Channel {
 public:
  Listener(Poller& poller, TcpMover& mover, Stream stream);
  void on_attached() override;
  void on_ready(uint32_t epoll_events) override;
  void on_requests(uint32_t) override {}
  void on_deadline() override;

 private:
  TcpMover& mover_;
};

}  // namespace kvferry
