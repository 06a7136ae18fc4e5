// A link inside one process: the same exchanges, grants and events as TCP, with a native thread (the courier) that copies from run to run.
// Users and tests move chunks without sockets; the conformance suite takes it as its reference.
#pragma once
#include <pthread.h>

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "../core/mover.h"
#include "connection.h"

namespace kvferry {

class FakeMover : public Mover {
 public:
  FakeMover(const Bounds& bounds, EventQueue::Callback wake);
  ~FakeMover() override;

  bool start() override;
  void close() override;
  Failure listen(const std::string& host, uint16_t port, Endpoint* bound) override;
  uint64_t open() override;
  void dial(uint64_t connection, const std::vector<std::string>& hosts, uint16_t port, uint32_t timeout_ms, const std::string&) override;
  void abandon(uint64_t connection, Code code, const std::string& detail) override;
  Failure admit_lanes(uint64_t connection, const uint8_t* token, const LaneOptions& options) override;
  Failure open_lane(uint64_t connection, uint32_t lane, const uint8_t* token, const LaneOptions& options) override;
  void tune_lane(uint64_t, uint32_t, const LaneOptions&) override {}
  void close_lane(uint64_t connection, uint32_t lane) override;
  bool send(uint64_t connection, const uint8_t* message, size_t bytes) override;
  void disconnect(uint64_t connection) override;
  std::vector<LaneInfo> lane_info(uint64_t connection) override;
  std::vector<uint8_t> message(uint64_t connection) override;
  Endpoint remote(uint64_t connection) override;

  EventQueue& events() { return events_; }

  enum class Task { carry, open_lane, close_lane, disconnect };
  // Any thread; the courier does it.
  void post(Task task, std::shared_ptr<FakeConnection> connection, std::shared_ptr<FakeLane> lane);

 protected:
  std::shared_ptr<Exchange> exchange(uint64_t connection) override;
  void forget(uint64_t connection) override;
  void kick(Exchange& exchange) override { exchange.wake_lanes(); }
  void refill() override;

 private:
  struct Posted {
    Task task;
    std::shared_ptr<FakeConnection> connection;
    std::shared_ptr<FakeLane> lane;
  };

  static void* main(void* mover);
  void run();
  void serve(const Posted& posted);
  void serve_refill();
  // Ends connections that have flushed, or have had their second; false = none is left.
  bool serve_finishing();

  // With the board's lock held.
  std::shared_ptr<FakeConnection> find(uint64_t id);
  std::shared_ptr<FakeConnection> create(bool initiator, const Endpoint& remote);
  void join_lane(FakeConnection& connection, std::shared_ptr<FakeLane> lane);
  void close_pair(FakeLane& lane, Code here, Code there);
  void close_lanes(FakeConnection& connection, Code here);
  void end(FakeConnection& connection, Code code, const std::string& detail);
  // Moves messages to the peer as far as it has room.
  void deliver(FakeConnection& connection);
  void end_pair(FakeConnection& connection, Code here, Code there, const std::string& detail);

  // Guarded by the board's lock.
  bool closed_ = false;
  uint64_t next_connection_ = 1;
  uint32_t alive_ = 0;
  std::unordered_map<uint64_t, std::shared_ptr<FakeConnection>> connections_;

  pthread_t courier_ = {};
  bool running_ = false;
  std::mutex posts_mutex_;
  std::condition_variable posts_ready_;
  std::vector<Posted> posted_;
  bool refill_ = false;
  bool stopping_ = false;
};

}  // namespace kvferry
