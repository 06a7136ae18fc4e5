// The control connection to one peer: frames of length, checksum and message, both ways. schemas/wire.md.
#pragma once
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <vector>

#include "channel.h"
#include "connection.h"

namespace kvferry {

class ControlChannel : public Channel {
 public:
  // Dials the addresses in order until one answers.
  ControlChannel(Poller& poller, std::shared_ptr<TcpConnection> connection, std::vector<Address> addresses, uint32_t timeout_ms);
  // Was accepted; the preamble has been read.
  ControlChannel(Poller& poller, std::shared_ptr<TcpConnection> connection, Stream stream);

  // JavaScript thread. False: the queue is full, or the channel is closing.
  bool send(const uint8_t* message, size_t bytes);
  // JavaScript thread: takes no more messages; what is queued is flushed, for at most a second.
  void disconnect();

  void on_attached() override;
  void on_ready(uint32_t epoll_events) override;
  void on_requests(uint32_t requests) override;
  void on_deadline() override;

 private:
  enum class State { dialing, securing, open, finishing, closed };

  bool is_opening() const { return state_ == State::dialing || state_ == State::securing; }
  void connect();
  void connected();
  void secure();
  void opened();
  void finish();
  void read();
  void broken(int error);
  void discard();
  // False: the connection is to be closed with `protocol_error`; *why says what was wrong.
  bool digest(const char** why);
  void write();
  bool flush_locked();
  uint32_t interest() const;
  void set_interest_locked();
  void close(Code code, const std::string& detail);

  const std::shared_ptr<TcpConnection> connection_;
  const std::vector<Address> addresses_;
  size_t address_ = 0;
  const uint32_t timeout_ms_;

  // The poller's own.
  std::vector<uint8_t> inbound_;
  size_t inbound_bytes_ = 0;

  std::mutex out_mutex_;  // guards the rest, the socket included
  State state_;
  bool reading_ = true;
  bool half_closed_ = false;
  bool attached_ = false;
  bool takes_ = true;
  uint32_t interest_ = 0;
  std::deque<std::vector<uint8_t>> outbox_;
  size_t outbox_first_ = 0;  // bytes of the first message that are sent
  size_t outbox_bytes_ = 0;
};

}  // namespace kvferry
