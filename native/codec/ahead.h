// Asks for memory ahead of what is in hand: rows and runs are short, and what is done to them is long enough for a prefetcher of the CPU to lose sight of the next.
#pragma once
#include <cstddef>
#include <cstdint>

namespace kvferry::codec {

constexpr size_t kAheadBytes = 4096;
constexpr size_t kLineBytes = 64;

// As many bytes as are in hand, kAheadBytes behind them. Asking for what is not there does no harm.
template <int kWrites>
void ask_ahead(const uint8_t* at, size_t count) {
  const uintptr_t from = reinterpret_cast<uintptr_t>(at) + kAheadBytes;
  for (uintptr_t line = from; line < from + count; line += kLineBytes) __builtin_prefetch(reinterpret_cast<const void*>(line), kWrites);
}

}  // namespace kvferry::codec
