// CRC32C (Castagnoli). crc32c(0, ...) of the whole equals crc32c(crc32c(0, head), tail).
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace kvferry {

// Best implementation of this CPU, chosen once: VPCLMULQDQ on 512 or 256 bits, PCLMULQDQ, SSE 4.2, arm64's CRC, scalar.
uint32_t crc32c(uint32_t crc, const void* bytes, size_t count);
// The oracle: table-driven, the same on every CPU.
uint32_t crc32c_scalar(uint32_t crc, const void* bytes, size_t count);
// CRC of head followed by tail, from their CRCs and the tail's length.
uint32_t crc32c_combine(uint32_t head, uint32_t tail, uint64_t tail_count);
const char* crc32c_name();
// What this CPU has, best first.
std::vector<const char*> crc32c_names();
// One implementation by its name, for tests; false if this CPU lacks it.
bool crc32c_by_name(const char* name, uint32_t crc, const void* bytes, size_t count, uint32_t* result);

}  // namespace kvferry
