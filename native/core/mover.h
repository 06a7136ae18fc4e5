// The native half of a link, whatever carries the bytes. All methods belong to the JavaScript thread. transport/link/link.ts says what they mean;
// native/napi/mover.cpp is their face in JavaScript.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "bounds.h"
#include "codes.h"
#include "endpoint.h"
#include "events.h"
#include "exchange.h"
#include "placement.h"
#include "refusals.h"
#include "tls.h"

namespace kvferry {

struct LaneOptions {
  uint64_t pace_bytes_per_second = 0;  // 0: none
  uint32_t not_sent_low_bytes = 0;     // 0: the host's
  std::string congestion_control;      // "": the host's
  uint32_t socket_buffer_bytes = 0;    // 0: as the kernel tunes them
  uint32_t dscp = 0;
};

// TCP_INFO of a lane; transport/link/link.ts names the fields.
struct LaneInfo {
  uint32_t lane = 0;
  double bytes_sent = 0, bytes_received = 0, bytes_delivered = 0, bytes_retransmitted = 0, delivery_rate = 0, rtt_us = 0, min_rtt_us = 0,
         retransmits = 0, lost = 0, congestion_window_bytes = 0, not_sent_bytes = 0, busy_us = 0, receive_window_limited_us = 0,
         send_buffer_limited_us = 0;
  std::string congestion_control;
  double unanswered_bytes = 0;
  bool is_receiving = false;
  // Of a socket; what carries bytes without one leaves it empty.
  struct Socket {
    double rtt_variation_us = 0, path_mtu_bytes = 0, dscp = 0, send_buffer_bytes = 0, receive_buffer_bytes = 0;
    Endpoint local, remote;
  };
  std::optional<Socket> socket;
  std::optional<TlsPeer> tls;
};

// One entry of the submission array; the rest is kept for what a chunk may need later.
struct Submission {
  double placement;
  uint32_t chunk;
  uint32_t sequence;
  uint32_t reserved[12];
};
static_assert(sizeof(Submission) == 64);

class Mover {
 public:
  Mover(const Bounds& bounds, EventQueue::Callback wake);
  virtual ~Mover() = default;
  // False: no threads or descriptors to be had.
  virtual bool start() = 0;
  virtual void close() = 0;

  // From now on connections are made over TLS with this; those that are there go on. `unsupported`: not by this link or this Node.
  virtual Failure set_tls(const TlsMaterial& material) { return {Code::unsupported, "this link has no TLS"}; }
  virtual Failure listen(const std::string& host, uint16_t port, Endpoint* bound) = 0;
  // A connection that is to be dialled; 0 = too many.
  virtual uint64_t open() = 0;
  // `hosts`: numeric addresses, tried in order. `identity`: whose certificate the peer must have, over TLS.
  virtual void dial(uint64_t connection, const std::vector<std::string>& hosts, uint16_t port, uint32_t timeout_ms, const std::string& identity) = 0;
  // Ends a connection that could not even be dialled: `disconnected` follows.
  virtual void abandon(uint64_t connection, Code code, const std::string& detail) = 0;
  virtual Failure admit_lanes(uint64_t connection, const uint8_t* token, const LaneOptions& options) = 0;
  virtual Failure open_lane(uint64_t connection, uint32_t lane, const uint8_t* token, const LaneOptions& options) = 0;
  virtual void tune_lane(uint64_t connection, uint32_t lane, const LaneOptions& options) = 0;
  virtual void close_lane(uint64_t connection, uint32_t lane) = 0;
  // Sends so many bytes of nothing, or fewer if chunks come.
  virtual void pad_lane(uint64_t, uint32_t, uint64_t) {}
  virtual bool send(uint64_t connection, const uint8_t* message, size_t bytes) = 0;
  virtual void disconnect(uint64_t connection) = 0;
  virtual std::vector<LaneInfo> lane_info(uint64_t connection) = 0;
  // The message that the next `message` event of this connection announced.
  virtual std::vector<uint8_t> message(uint64_t connection) = 0;
  virtual Endpoint remote(uint64_t connection) = 0;
  // Who is at the other end, over TLS.
  virtual std::optional<TlsPeer> peer(uint64_t connection) { return {}; }

  void rest_lane(uint64_t connection, uint32_t lane, bool resting);
  Failure place(uint64_t connection, PlacementSpec&& spec, uint64_t* placement);
  void revoke(uint64_t placement);
  // What is sent of it from now on, what is queued included.
  void set_rank(uint64_t placement, uint32_t rank);
  // `taken` of the submissions, in order, are queued; all of them are checked before the first is.
  Failure submit(const Submission* submissions, uint32_t count, uint32_t* taken);
  uint32_t drain(Event* completions, uint32_t max);
  // Why a connection ended. It is forgotten then.
  std::string detail(uint64_t connection);
  // Strangers that were turned away, and what the next `refused` event announced.
  std::array<uint64_t, kRefusals> refusal_counts() const { return refusals_.counts(); }
  Refused refused() { return refusals_.next(); }

  const Bounds bounds;

 protected:
  virtual std::shared_ptr<Exchange> exchange(uint64_t connection) = 0;
  virtual void forget(uint64_t connection) = 0;
  // Chunks were queued.
  virtual void kick(Exchange& exchange) = 0;
  // An event reservation was refused and there is room again. Any thread.
  virtual void refill() = 0;
  void drop_placements() { placements_.clear(); }

  EventQueue events_;
  Refusals refusals_;

 private:
  struct Placed {
    std::shared_ptr<Placement> placement;
    std::shared_ptr<Exchange> exchange;
  };
  Failure check_submissions(const Submission* submissions, uint32_t count);

  std::vector<Exchange*> touched_;
  std::unordered_map<uint64_t, Placed> placements_;
  uint64_t next_placement_ = 1;
};

}  // namespace kvferry
