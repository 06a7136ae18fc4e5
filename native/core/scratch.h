// Memory for what a thread makes and uses at once: one piece for each thread, as large as it ever needed.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

namespace kvferry {

// Valid until this thread asks again.
inline uint8_t* scratch(size_t bytes) {
  thread_local std::unique_ptr<uint8_t[]> memory;
  thread_local size_t room = 0;
  if (room < bytes) {
    memory = std::make_unique_for_overwrite<uint8_t[]>(bytes);
    room = bytes;
  }
  return memory.get();
}

}  // namespace kvferry
