#include "events.h"

#include <cstdio>
#include <cstdlib>
#include <numeric>

#include "clock.h"

namespace kvferry {
namespace {

// Bulk makes a chunk of a mebibyte every 200 us or so; a wake-up for each would cost more than all else that JavaScript does for it.
constexpr uint64_t kLazyUs = 500;

size_t total(const std::array<uint32_t, kQuotas>& bounds) {
  return std::accumulate(bounds.begin(), bounds.end(), size_t(0));
}

}  // namespace

EventQueue::EventQueue(const std::array<uint32_t, kQuotas>& bounds, Callback wake, Callback refill)
    : ring_(total(bounds)), wake_(std::move(wake)), refill_(std::move(refill)) {
  for (size_t quota = 0; quota < kQuotas; quota++) counters_[quota].bound = bounds[quota];
}

bool EventQueue::try_reserve(size_t quota) {
  Counter& counter = counters_[quota];
  if (counter.held.fetch_add(1) < counter.bound) return true;
  counter.held.fetch_sub(1);
  return false;
}

bool EventQueue::reserve(Quota quota) {
  if (try_reserve(size_t(quota))) return true;
  // The flag goes up before the second look: room that comes after it is announced by `refill`, room that came before it is seen.
  starved_.store(true);
  return try_reserve(size_t(quota));
}

void EventQueue::release(Quota quota) { give_back(size_t(quota), 1); }

void EventQueue::give_back(size_t quota, uint32_t count) {
  counters_[quota].held.fetch_sub(count);
  if (!starved_.load() || !starved_.exchange(false)) return;
  std::lock_guard<std::mutex> lock(callback_mutex_);
  if (!silent_) refill_();
}

void EventQueue::emit(Quota quota, const Event& event) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    push(quota, event);
    if (signalled_) return;
    signalled_ = true;
    lazy_since_us_.store(0, std::memory_order_relaxed);
  }
  wake();
}

void EventQueue::emit_lazily(Quota quota, const Event& event) {
  std::lock_guard<std::mutex> lock(mutex_);
  push(quota, event);
  if (!signalled_ && lazy_since_us_.load(std::memory_order_relaxed) == 0) lazy_since_us_.store(now_us(), std::memory_order_relaxed);
}

int EventQueue::serve_lazy() {
  const uint64_t since = lazy_since_us_.load(std::memory_order_relaxed);
  if (since == 0) return -1;
  if (now_us() < since + kLazyUs) return 1;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (signalled_ || lazy_since_us_.load(std::memory_order_relaxed) == 0) return -1;
    signalled_ = true;
    lazy_since_us_.store(0, std::memory_order_relaxed);
  }
  wake();
  return -1;
}

void EventQueue::push(Quota quota, const Event& event) {
  if (!ring_.push(event)) {
    fputs("kvferry: an event was emitted without a reservation\n", stderr);
    abort();
  }
  ring_.at(ring_.size() - 1).quota = quota;
}

void EventQueue::wake() {
  std::lock_guard<std::mutex> lock(callback_mutex_);
  if (!silent_) wake_();
}

void EventQueue::poke() { wake(); }

size_t EventQueue::drain(Event* to, size_t max) {
  std::array<uint32_t, kQuotas> freed = {};
  size_t count = 0;
  bool more = false;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    for (; count < max && !ring_.empty(); count++) {
      to[count] = ring_.front();
      freed[size_t(to[count].quota)] += 1;
      ring_.pop();
    }
    more = !ring_.empty();
    signalled_ = more;
    lazy_since_us_.store(0, std::memory_order_relaxed);
  }
  for (size_t quota = 0; quota < kQuotas; quota++) {
    if (freed[quota] > 0) give_back(quota, freed[quota]);
  }
  // What is left would not wake anybody by itself.
  if (more) wake();
  return count;
}

void EventQueue::silence() {
  std::lock_guard<std::mutex> lock(callback_mutex_);
  silent_ = true;
}

}  // namespace kvferry
