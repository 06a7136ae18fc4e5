// One TCP connection that carries frames both ways. lane.cpp has its life, lane_send.cpp and lane_receive.cpp the two data paths.
#pragma once
#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>

#include "../core/exchange.h"
#include "../core/frame.h"
#include "../core/ring.h"
#include "channel.h"
#include "connection.h"
#include "socket.h"

namespace kvferry {

// A piece is what one system call moves: small enough that what was just read or checksummed is still in the second-level cache.
constexpr size_t kPieceBytes = 256 << 10;
constexpr size_t kPieceRuns = 256;
// Chunks up to this are copied together with their headers, so that several go in one call.
constexpr size_t kCopiedChunkBytes = 16 << 10;
constexpr size_t kCopiedBytes = 64 << 10;

class TcpLane : public Channel, public LaneEnd {
 public:
  // Opens.
  TcpLane(Poller& poller, std::shared_ptr<TcpConnection> connection, uint32_t index, const uint8_t* token, const LaneOptions& options);
  // Was accepted; the preamble has been read.
  TcpLane(Poller& poller, std::shared_ptr<TcpConnection> connection, uint32_t index, Stream stream, const LaneOptions& options);

  // JavaScript thread: sends what is queued if nobody else is at this lane just now, else leaves it to the poller.
  void send_inline();
  void tune(const LaneOptions& options);
  void pad(uint64_t bytes);
  bool info(LaneInfo* info);
  void close_asked();

  void wake() override { post(request::kSend); }
  void nudge() override { post(request::kLetGo); }
  std::shared_ptr<LaneEnd> share() override;

  void on_attached() override;
  void on_ready(uint32_t epoll_events) override;
  void on_requests(uint32_t requests) override;
  void on_deadline() override;

 private:
  enum class State { connecting, securing, waiting, greeting, up, dead };
  enum class Flow { idle, blocked, broken };

  // Life; poller's thread.
  void connect();
  void connected();
  void secure();
  void greet();
  void come_up();
  void close(Code code);
  void set_interest_locked();

  // Sending; `send` takes send_mutex_, the others are called with it held.
  void send(bool writable_now);
  Flow pump(bool writable_now);
  bool stage();
  void stage_copied();
  size_t encode();
  void stage_padding();
  void stage_payload();
  void stage_zeros(size_t bytes);
  void stage_vector(const void* bytes, size_t count);
  bool writable() const;
  void advance(size_t count);
  void abandon();
  void finish_payload();

  // Receiving; poller's thread.
  void receive();
  bool digest();
  bool begin_frame();
  bool begin_chunk();
  void absorb();
  void finish_chunk();
  void answer(const FrameHeader& header);
  ssize_t fetch(size_t* wanted);
  ssize_t fetch_payload(size_t* wanted);
  ssize_t fetch_discarded(size_t* wanted);
  void take_in(size_t count);
  bool is_coded() const { return (header_.flags & kFlagCoded) != 0; }
  void put(const uint8_t* bytes, size_t count);
  bool decode();
  void let_go();
  void pause();
  size_t ahead_bytes() const { return ahead_end_ - ahead_first_; }

  const std::shared_ptr<TcpConnection> connection_;
  std::array<uint8_t, kTokenBytes> token_ = {};
  LaneOptions options_;
  std::atomic<bool> asked_{false};  // we closed it, not the peer
  State state_;  // written by the poller, with send_mutex_ held

  // Sending half.
  std::mutex send_mutex_;  // guards the socket too, for threads other than the poller's
  uint32_t interest_ = 0;
  bool wants_out_ = false;
  bool wants_in_ = true;
  uint64_t padding_left_ = 0;
  bool choked_ = false;    // reading stopped because of too many answers
  Ring<FrameHeader> answers_;
  std::unique_ptr<uint8_t[]> copied_;  // answers, headers, small chunks
  size_t copied_end_ = 0;
  std::unique_ptr<uint8_t[]> gathered_;  // payload of short runs
  std::unique_ptr<uint8_t[]> coded_;     // payload of the chunk that is being sent, if it is coded
  size_t coded_next_ = 0, coded_room_ = 0;
  std::array<uint8_t, kTrailerBytes> trailer_;
  std::array<iovec, kPieceRuns + 2> out_vectors_;
  size_t out_first_ = 0, out_count_ = 0;
  size_t head_left_ = 0;       // bytes of the piece in front of the payload
  size_t payload_staged_ = 0;  // payload bytes of the piece
  size_t staged_ = 0;          // all bytes of the piece that the kernel has not taken
  bool fresh_ = false;         // known to be writable
  bool out_open_ = false;      // in the middle of a chunk
  bool out_pinned_ = false;
  bool out_abandoned_ = false;
  bool out_checksum_ = false;
  bool out_coded_ = false;
  Outgoing out_;
  std::optional<RunCursor> out_cursor_;
  size_t out_left_ = 0;        // payload bytes not staged yet
  uint32_t out_crc_ = 0;

  // Receiving half.
  enum class Reading { header, waiting, payload, discard, trailer };
  Reading reading_ = Reading::header;
  bool flush_ = false;         // answers were queued, or room was made, in this turn
  bool lean_ = false;          // large chunks come: read no further than their headers
  uint64_t turn_us_ = 0;       // time of this turn, if it was asked for
  FrameHeader header_;
  Placement* placement_ = nullptr;  // pinned while reading_ is payload or trailer
  Answer refusal_ = {};        // of a chunk that is thrown away
  std::optional<RunCursor> in_cursor_;
  size_t in_left_ = 0;         // payload bytes not received
  size_t in_vectored_ = 0;     // of those, named by in_vectors_
  uint32_t in_crc_ = 0;
  std::array<iovec, kPieceRuns + 1> in_vectors_;
  size_t in_first_ = 0, in_count_ = 0;
  std::unique_ptr<uint8_t[]> scattered_;  // payload of short runs
  std::unique_ptr<uint8_t[]> arrived_;    // payload of a coded chunk
  size_t arrived_end_ = 0, arrived_room_ = 0;
  std::unique_ptr<uint8_t[]> ahead_;      // bytes read before it was known what they are
  size_t ahead_first_ = 0, ahead_end_ = 0;
};

}  // namespace kvferry
