// One end of an in-process connection, and one end of a lane of it. What joins two movers is touched under the board's lock, or under a
// lane pair's lock while the pair is alive; a mover that closes cuts all its pairs first, so nobody reaches into it afterwards.
#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "../core/exchange.h"
#include "../core/frame.h"
#include "../core/mover.h"

namespace kvferry {

class FakeConnection;
class FakeMover;

// What the two ends of a lane share.
struct LanePair {
  std::mutex mutex;  // held while a chunk is carried
  bool dead = false;
};

struct MessageQueue {
  std::deque<std::vector<uint8_t>> messages;
  size_t bytes = 0;

  void push(std::vector<uint8_t>&& message);
  std::vector<uint8_t> pop();
};

class FakeLane : public LaneEnd, public std::enable_shared_from_this<FakeLane> {
 public:
  FakeLane(FakeConnection& owner, uint32_t index, const uint8_t* token);
  void wake() override;
  // The courier looks at `revoked` between pieces and waits for nobody in the middle of a chunk.
  void nudge() override {}
  std::shared_ptr<LaneEnd> share() override { return shared_from_this(); }

  FakeConnection& connection;
  std::array<uint8_t, kTokenBytes> token = {};
  std::shared_ptr<LanePair> pair;      // set once, before the lane is up
  FakeLane* twin = nullptr;            // valid while the pair is alive
  std::atomic<bool> waiting{false};    // for room among the twin's events
  std::atomic<uint64_t> bytes_sent{0}, bytes_received{0};
};

class FakeConnection : public Exchange, public std::enable_shared_from_this<FakeConnection> {
 public:
  FakeConnection(uint64_t id, FakeMover& owner, bool initiates, const Endpoint& remote);

  FakeMover& mover;
  const bool initiator;
  // Guarded by the board's lock.
  Endpoint remote;
  FakeConnection* peer = nullptr;
  bool ended = false;
  bool admits = false;
  std::array<uint8_t, kTokenBytes> token = {};
  std::vector<std::shared_ptr<FakeLane>> lanes;
  MessageQueue outbox, inbox;
  bool takes_no_more = false;
  uint64_t finish_at_us = 0;  // we asked for the end: when it comes even if messages are still queued
  bool was_full = false;      // a message was refused
};

// Carries what `lane` may send, for at most one turn. True: there is more. `violation`: the pair is to be closed.
bool carry(FakeLane& lane, bool* violation);

}  // namespace kvferry
