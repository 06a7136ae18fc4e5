// What happened, from any thread to JavaScript. Bounded by reservations: whoever may cause an event reserves room for it first, so that
// emitting never fails and nothing is lost when JavaScript is slow; what cannot reserve waits.
#pragma once
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>

#include "codes.h"
#include "ring.h"

namespace kvferry {

// The numbers are read by transport/link/native-link.ts.
enum class EventKind : uint32_t {
  accepted = 1, connected, disconnected, message, lane_up, lane_down, acked, failed, committed, rejected, revoked, refused
};

enum class Quota : uint32_t { submission, arrival, message, lane, table, refusal };
constexpr size_t kQuotas = 6;

// Lane of an event about a chunk that no lane had taken yet.
constexpr uint32_t kNoLane = 0xffffffff;

// One entry of the completion array: 64 bytes, the layout is read by transport/link/native-link.ts.
struct Event {
  EventKind kind = EventKind::accepted;
  uint32_t lane = 0;
  uint32_t chunk = 0;
  uint32_t sequence = 0;
  uint32_t code = 0;
  uint32_t bytes = 0;
  double subject = 0;  // the connection or the placement
  double duration_us = 0;
  Quota quota = Quota::table;
  uint32_t reserved[5] = {};
};
static_assert(sizeof(Event) == 64);

class EventQueue {
 public:
  using Callback = std::function<void()>;
  // `wake`: there are events (once until the next drain). `refill`: somebody was refused a reservation and there is room again. Any thread.
  EventQueue(const std::array<uint32_t, kQuotas>& bounds, Callback wake, Callback refill);

  // False: no room. `refill` is called when it is worth trying again.
  bool reserve(Quota quota);
  // For what nobody waits for: false is the end of it, and `refill` is not called.
  bool reserve_now(Quota quota) { return try_reserve(size_t(quota)); }
  // Gives a reservation back unused.
  void release(Quota quota);
  // Uses one reservation up.
  void emit(Quota quota, const Event& event);
  // As `emit`, for what nobody waits for: JavaScript is woken for it within a millisecond, together with what else comes until then.
  // The caller's thread must call `serve_lazy` soon, and as long as that says so.
  void emit_lazily(Quota quota, const Event& event);
  // Wakes JavaScript if lazy events have waited long enough. Milliseconds after which to call again; -1 = no need.
  int serve_lazy();
  // Wakes JavaScript without an event: something that was full is not any more.
  void poke();
  // Moves up to `max` events out; JavaScript thread.
  size_t drain(Event* to, size_t max);
  // No callback is running or will run after this returns.
  void silence();

 private:
  bool try_reserve(size_t quota);
  void push(Quota quota, const Event& event);
  void wake();
  void give_back(size_t quota, uint32_t count);

  struct alignas(64) Counter { std::atomic<uint32_t> held{0}; uint32_t bound = 0; };
  std::array<Counter, kQuotas> counters_;
  std::atomic<bool> starved_{false};
  std::mutex mutex_;
  Ring<Event> ring_;
  bool signalled_ = false;
  std::atomic<uint64_t> lazy_since_us_{0};  // written with mutex_ held; 0: no lazy event waits
  std::mutex callback_mutex_;
  bool silent_ = false;
  Callback wake_;
  Callback refill_;
};

}  // namespace kvferry
