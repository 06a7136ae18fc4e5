// Strangers that were turned away at the door, before there was a connection to tell of: all are counted, a few are told of. Bounded,
// so that a flood of them costs no memory.
#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>

#include "endpoint.h"
#include "events.h"

namespace kvferry {

// The numbers are read by transport/link/native-events.ts.
enum class Refusal : uint32_t {
  bad_certificate, expired, unknown_ca, denied, no_certificate, wrong_identity, handshake, plain, tls, garbage, timeout, full
};
constexpr size_t kRefusals = 12;

struct Refused {
  Refusal reason = Refusal::garbage;
  Endpoint remote;
  std::string detail;
};

class Refusals {
 public:
  explicit Refusals(EventQueue& events) : events_(events) {}

  // Any thread.
  void add(Refusal reason, const Endpoint& remote, const std::string& detail);
  // What the next `refused` event announced; JavaScript thread.
  Refused next();
  std::array<uint64_t, kRefusals> counts() const;

 private:
  EventQueue& events_;
  std::array<std::atomic<uint64_t>, kRefusals> counts_ = {};
  std::mutex mutex_;
  std::deque<Refused> told_;
};

}  // namespace kvferry
