// An encoded tile begins with this. schemas/codec.md describes the bytes.
#pragma once
#include <cstddef>
#include <cstdint>

namespace kvferry::codec {

constexpr size_t kHeaderBytes = 48;
constexpr uint16_t kHasChecksum = 1;

// Why a tile travels as it is.
enum class Stored : uint8_t { no, incompressible, not_finite, out_of_range };
constexpr uint8_t kStoredMax = uint8_t(Stored::out_of_range);
const char* stored_name(Stored stored);

struct Header {
  Stored stored = Stored::no;
  uint16_t flags = 0;
  uint64_t spec = 0;
  uint32_t tokens = 0;
  uint32_t position = 0;
  uint32_t recent = 0;     // tokens at the end that travel as they are
  uint32_t payload = 0;    // bytes behind the header
  uint32_t side = 0;       // bytes of escapes, the last of them
  uint32_t checksum = 0;   // CRC32C of what the tile decodes to, part by part
};

void write_header(const Header& header, uint8_t* to);
// nullptr, or what is wrong with it, in words.
const char* read_header(const uint8_t* from, size_t count, Header* header);

}  // namespace kvferry::codec
