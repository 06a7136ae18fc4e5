// Monotonic time in microseconds.
#pragma once
#include <ctime>
#include <cstdint>

namespace kvferry {

inline uint64_t now_us() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return uint64_t(now.tv_sec) * 1'000'000 + uint64_t(now.tv_nsec) / 1'000;
}

}  // namespace kvferry
