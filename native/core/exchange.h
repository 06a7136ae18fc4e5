// What one connection may send and what may land on it, whatever carries the bytes: placements, chunk slots, the send queue, chunks
// without an answer. Every method takes the exchange's mutex itself unless it says otherwise. native/OWNERSHIP.md has the rules of pins and events.
#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "bounds.h"
#include "codes.h"
#include "events.h"
#include "frame.h"
#include "placement.h"
#include "ring.h"
#include "send_queue.h"

namespace kvferry {

class Exchange;

// A lane as the exchange sees it. The fields are guarded by the exchange's mutex.
class LaneEnd {
 public:
  explicit LaneEnd(uint32_t lane) : lane_index(lane) {}
  virtual ~LaneEnd() = default;
  // There may be something to take. Called with the mutex held, from any thread: it only leaves a note.
  virtual void wake() = 0;
  // Memory that this lane has pinned was revoked: let go of it. As `wake`.
  virtual void nudge() = 0;
  virtual std::shared_ptr<LaneEnd> share() = 0;

  const uint32_t lane_index;

 private:
  friend class Exchange;
  // `placement` is nullptr when the chunk has had its event already (revoked): its answer is still to come.
  struct Unanswered {
    Placement* placement = nullptr;
    uint64_t grant = 0;
    uint32_t generation = 0, chunk = 0, sequence = 0, bytes = 0;
    uint64_t submitted_us = 0;
  };

  bool up_ = false;
  bool hungry_ = false;        // found nothing to send; whoever queues wakes it
  bool resting_ = false;       // takes no chunks; answers go on
  bool answer_bound_ = false;  // has too many chunks without an answer
  Placement* sending_ = nullptr;
  Placement* receiving_ = nullptr;
  uint32_t receiving_chunk_ = 0;
  uint64_t unanswered_bytes_ = 0;
  Ring<Unanswered> unanswered_{kUnansweredChunks};
};

// A chunk that a lane has taken to send; its memory is pinned until `sent`.
struct Outgoing {
  Placement* placement = nullptr;
  uint32_t chunk = 0;
  uint32_t sequence = 0;
};

struct Answer {
  FrameType type;
  Code status;
};

enum class Landing { write, discard, violation };

struct Arrival {
  Landing landing;
  Placement* placement;  // write: pinned
  Answer answer;         // discard: what to say at the end of the chunk
};

enum class Queueing { queued, full, gone };
// `room`: the lane may take again what it could not before. `violation`: no such chunk was sent.
enum class Answering { noted, room, violation };

class Exchange {
 public:
  // `lazily`: the lanes' threads serve lazy events (EventQueue::serve_lazy).
  Exchange(uint64_t id, EventQueue& events, const Bounds& bounds, bool lazily);
  const uint64_t id;

  // JavaScript thread.
  Failure place(std::shared_ptr<Placement> placement);
  void revoke(Placement& placement);
  void set_rank(Placement& placement, uint32_t rank);
  Queueing queue(Placement& placement, const QueuedChunk& chunk);
  // A resting lane takes no chunks any more; what it has taken goes on. Nothing happens if there is no such lane.
  void rest_lane(uint32_t lane_index, bool resting);
  // Wakes lanes that had nothing to do, those with least under way first, as many as there are chunks.
  void wake_lanes();
  // If no more than `bytes_max` are queued: the lane that `wake_lanes` would wake first, which counts as woken from now on. nullptr if all are busy.
  std::shared_ptr<LaneEnd> idle_lane(uint64_t bytes_max);

  // Lanes. The caller has reserved an event (Quota::arrival) before `arrived`; the exchange uses it up or gives it back.
  void lane_up(LaneEnd& lane);
  void lane_down(LaneEnd& lane, Code code);
  bool take(LaneEnd& lane, Outgoing* out);
  // What the lane took last travels coded, in so many bytes.
  void shrunk(LaneEnd& lane, uint32_t bytes);
  // The payload is in the kernel, or the lane let go of it.
  void sent(LaneEnd& lane);
  // ACK or NACK.
  Answering answered(LaneEnd& lane, const FrameHeader& header, uint64_t now_us);
  Arrival arrived(LaneEnd& lane, const FrameHeader& header);
  // The end of a chunk that `arrived` said to write, even if the lane has let go since.
  // `fault`: none, cancelled (not sent whole), checksum_mismatch or codec_failed.
  Answer landed(LaneEnd& lane, const FrameHeader& header, Code fault);
  // Lets go of what the lane is receiving; the rest of it is to be thrown away.
  void let_go(LaneEnd& lane);

  // Payload that the lane has taken and that has no answer; whether it is in the middle of a chunk that lands.
  uint64_t unanswered_bytes(LaneEnd& lane);
  bool is_receiving(LaneEnd& lane);

  // The end: after the last lane is down. Chunks that no lane took fail, then `disconnected`.
  void gone(Code code, const std::string& detail);
  bool is_gone();
  std::string detail();

 private:
  LaneEnd* idlest();
  void unpin(Placement& placement);
  void finish_revocation(Placement& placement);
  void fail(const Placement& placement, uint32_t chunk, uint32_t sequence, uint32_t lane, Code code);

  // For events of bulk, which only the last is waited for.
  void emit_bulk(Quota quota, const Event& event, bool is_last);

  EventQueue& events_;
  const bool lazily_;
  std::mutex mutex_;
  bool gone_ = false;
  std::string detail_;
  std::vector<LaneEnd*> lanes_;
  SendQueue queue_;
  // Placements until their `revoked` is emitted, by their own id; incoming ones that chunks may name, by grant.
  std::unordered_map<uint64_t, std::shared_ptr<Placement>> placements_;
  std::unordered_map<uint64_t, Placement*> grants_;
};

}  // namespace kvferry
