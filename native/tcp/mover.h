// The TCP link's native half: pollers, listeners, connections and the tokens that lanes present.
#pragma once
#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "../core/frame.h"
#include "../core/mover.h"
#include "connection.h"
#include "doorstep.h"
#include "poller.h"

namespace kvferry {

class Greeting;

class TcpMover : public Mover {
 public:
  TcpMover(const Bounds& bounds, uint32_t io_threads, EventQueue::Callback wake);
  ~TcpMover() override;

  bool start() override;
  void close() override;
  Failure set_tls(const TlsMaterial& material) override;
  Failure listen(const std::string& host, uint16_t port, Endpoint* bound) override;
  uint64_t open() override;
  void dial(uint64_t connection, const std::vector<std::string>& hosts, uint16_t port, uint32_t timeout_ms, const std::string& identity) override;
  void abandon(uint64_t connection, Code code, const std::string& detail) override;
  Failure admit_lanes(uint64_t connection, const uint8_t* token, const LaneOptions& options) override;
  Failure open_lane(uint64_t connection, uint32_t lane, const uint8_t* token, const LaneOptions& options) override;
  void tune_lane(uint64_t connection, uint32_t lane, const LaneOptions& options) override;
  void close_lane(uint64_t connection, uint32_t lane) override;
  void pad_lane(uint64_t connection, uint32_t lane, uint64_t bytes) override;
  bool send(uint64_t connection, const uint8_t* message, size_t bytes) override;
  void disconnect(uint64_t connection) override;
  std::vector<LaneInfo> lane_info(uint64_t connection) override;
  std::vector<uint8_t> message(uint64_t connection) override;
  Endpoint remote(uint64_t connection) override;
  std::optional<TlsPeer> peer(uint64_t connection) override;

  // Poller threads.
  EventQueue& events() { return events_; }
  Refusals& refusals() { return refusals_; }
  // What new sockets speak TLS with; nullptr: they do not.
  std::shared_ptr<TlsContext> tls();
  // A socket whose preamble has been read; closed if it is not wanted.
  void adopt_control(Stream stream);
  void adopt_lane(Stream stream, const Preamble& preamble);
  // True: nobody has admitted its token yet, and it may wait for that; request::kRead comes then, if the greeting does not end first.
  bool hold_lane(Greeting& greeting, const Preamble& preamble);
  void let_go_of_lane(const Greeting& greeting);
  void connection_ended(TcpConnection& connection);
  // Greeter's thread.
  Doorstep& doorstep() { return doorstep_; }

 protected:
  std::shared_ptr<Exchange> exchange(uint64_t connection) override;
  void forget(uint64_t connection) override;
  void kick(Exchange& exchange) override;
  void refill() override;

 private:
  using Token = std::array<uint8_t, kTokenBytes>;

  std::shared_ptr<TcpConnection> find(uint64_t id);
  // nullptr: too many.
  std::shared_ptr<TcpConnection> create(bool initiator);
  Poller& poller(uint32_t index) { return *pollers_[index % pollers_.size()]; }

  std::vector<std::unique_ptr<Poller>> pollers_;
  // Listeners and greetings have a thread of their own: whoever knocks does not hold up those who are in.
  Poller greeter_;
  bool greets_ = false;
  bool started_ = false;
  bool closed_ = false;
  Doorstep doorstep_;

  std::mutex registry_;
  uint64_t next_connection_ = 1;
  uint32_t alive_ = 0;
  std::unordered_map<uint64_t, std::shared_ptr<TcpConnection>> connections_;
  std::map<Token, uint64_t> tokens_;
  std::shared_ptr<TlsContext> tls_;
  std::multimap<Token, std::shared_ptr<Channel>> held_;  // greetings
};

}  // namespace kvferry
