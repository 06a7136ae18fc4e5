// One peer over TCP: a control channel, the lanes that joined it, and the exchange they carry.
#pragma once
#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "../core/exchange.h"
#include "../core/mover.h"
#include "socket.h"
#include "stream.h"

namespace kvferry {

class ControlChannel;
class TcpLane;
class TcpMover;

class TcpConnection : public Exchange, public std::enable_shared_from_this<TcpConnection> {
 public:
  // `table` reservations for `accepted` or `connected` and for `disconnected` have been made.
  TcpConnection(uint64_t id, TcpMover& mover, bool initiator, uint32_t first_poller);

  TcpMover& mover;
  const bool initiator;
  const uint32_t first_poller;
  bool ended = false;          // guarded by the mover's registry
  LaneOptions accepted_lanes;  // of those that the other end opens; guarded by the mover's registry

  void set_control(std::shared_ptr<ControlChannel> control);
  std::shared_ptr<ControlChannel> control();
  void set_remote(const Address& address);
  Address remote();
  // Whose certificate the peer must have; before it is dialled.
  void set_expected(const std::string& identity);
  // What a client needs to make a socket to this peer speak TLS.
  TlsDialogue dialogue(std::shared_ptr<TlsContext> context);
  // Who its control channel found at the other end; without TLS: nobody in particular.
  void set_peer(const TlsPeer& peer);
  std::optional<TlsPeer> peer();
  // Lanes are of the same peer as the connection, in the same manner.
  bool is_of_peer(const Stream& stream);

  // dialing: where to is known, and lanes may connect beside the control channel; open: that stands, and they may say what they are.
  enum class Stage { unknown, dialing, open };
  void set_stage(Stage stage);
  Stage stage();

  // False: the connection is ending or has a lane of this index.
  bool add_lane(std::shared_ptr<TcpLane> lane);
  std::shared_ptr<TcpLane> lane(uint32_t index);
  std::vector<std::shared_ptr<TcpLane>> lanes();
  // After Exchange::lane_down.
  // A lane that closes: first its index becomes free, then it is told, then the connection may have ended with it.
  void forget_lane(TcpLane& closing);
  void lane_closed();

  // The mover closes: nobody is told.
  void drop_channels();
  // Closes the lanes: the connection is about to end because we asked, or because it broke.
  void end_lanes(Code code);
  // The control channel is closed. `disconnected` comes when the lanes are too.
  void control_closed(Code code, const std::string& detail);
  bool is_ending();
  // What a peer that dialled has said first was found right: its messages may be large from now on.
  void admit() { admitted_.store(true); }
  bool is_admitted() const { return admitted_.load(); }
  // What lanes give as their reason when the connection takes them down.
  Code lane_code();

  void emit(EventKind kind);

  // Control messages on their way to JavaScript. A message needs room, and a reservation (Quota::message), before it is delivered;
  // request::kRead comes to the control channel when there is room again.
  bool has_room();
  void deliver(std::vector<uint8_t>&& message);
  std::vector<uint8_t> next_message();

 private:
  void finish();

  std::mutex ends_mutex_;
  std::shared_ptr<ControlChannel> control_;
  Address remote_;
  std::string expected_;
  std::optional<TlsPeer> peer_;
  Stage stage_ = Stage::unknown;
  std::vector<std::shared_ptr<TcpLane>> lanes_;
  uint32_t lanes_closing_ = 0;
  bool ending_ = false;
  bool control_closed_ = false;
  Code lane_code_ = Code::lane_lost;
  Code code_ = Code::none;
  std::string reason_;
  std::deque<std::vector<uint8_t>> inbox_;
  size_t inbox_bytes_ = 0;
  bool inbox_full_ = false;
  std::atomic<bool> admitted_;
};

}  // namespace kvferry
