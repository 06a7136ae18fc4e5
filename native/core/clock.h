// Monotonic time, and that of a thread.
#pragma once
#include <ctime>
#include <cstdint>

namespace kvferry {

inline uint64_t now_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return uint64_t(now.tv_sec) * 1'000'000'000 + uint64_t(now.tv_nsec);
}

// What the calling thread has had of a processor: it does not grow while others have it.
inline uint64_t thread_ns() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return uint64_t(now.tv_sec) * 1'000'000'000 + uint64_t(now.tv_nsec);
}

inline uint64_t now_us() { return now_ns() / 1'000; }

}  // namespace kvferry
