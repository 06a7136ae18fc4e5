// A socket that was accepted and has not said what it is: by its first byte TLS or plain, then the handshake, then the preamble, which tells
// control connections from lanes. All of it in bounded time; whoever is turned away is counted.
#pragma once
#include <array>
#include <string>

#include "../core/frame.h"
#include "channel.h"

namespace kvferry {

class TcpMover;

class Greeting : public Channel {
 public:
  Greeting(Poller& poller, TcpMover& mover, Stream stream);
  // How far it has come: who has come least far is missed least.
  int progress() const { return int(state_); }
  // Closed, because somebody else needs its place.
  void give_way();
  void on_attached() override;
  void on_ready(uint32_t epoll_events) override;
  // The token of a lane that waited is known now.
  void on_requests(uint32_t requests) override;
  void on_deadline() override;

 private:
  // held: a lane that came before the Hello that brings its token was judged.
  enum class State { leaving, silent, securing, greeting, held };

  void sniff();
  void secure();
  void read_preamble();
  void admit();
  // Answers a control connection that we could not understand, and waits for it to leave.
  void answer(Code code, const std::string& detail);
  void leave();
  void refuse(Refusal reason, const std::string& detail);
  void close();

  TcpMover& mover_;
  const std::shared_ptr<TlsContext> context_;  // nullptr: plain
  State state_ = State::silent;
  std::array<uint8_t, kPreambleBytes> bytes_;
  size_t have_ = 0;
};

}  // namespace kvferry
