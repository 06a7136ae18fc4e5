// zstd of the system, bound when it is first needed.
#pragma once
#include <cstddef>
#include <cstdint>

namespace kvferry::codec {

// "" if it is there, otherwise what is missing.
const char* zstd_problem();
// "1.5.4"; "" if it is missing.
const char* zstd_version();
// 0 if it is missing or `count` is too much for it.
size_t zstd_bound(size_t count);
// Bytes written to `out`, which has zstd_bound; 0 if it is missing or fails.
size_t zstd_encode(const uint8_t* from, size_t count, int level, uint8_t* out);
// False: missing, or not a frame of exactly `count` bytes.
bool zstd_decode(const uint8_t* in, size_t bytes, uint8_t* to, size_t count);

}  // namespace kvferry::codec
