#include "block.h"

#include <cstring>

#include "../core/crc32c.h"

namespace kvferry::codec {
namespace {

constexpr uint8_t kMagic[4] = {'K', 'V', 'F', 'B'};
constexpr uint8_t kVersion = 1;
constexpr size_t kSealed = 44;

template <typename Number>
void put(uint8_t* to, Number number) {
  for (size_t i = 0; i < sizeof number; i++) to[i] = uint8_t(number >> (8 * i));
}

template <typename Number>
Number get(const uint8_t* from) {
  Number number = 0;
  for (size_t i = 0; i < sizeof number; i++) number = Number(number | Number(from[i]) << (8 * i));
  return number;
}

}  // namespace

const char* stored_name(Stored stored) {
  switch (stored) {
    case Stored::no: return "";
    case Stored::incompressible: return "incompressible";
    case Stored::not_finite: return "not_finite";
    case Stored::out_of_range: return "out_of_range";
  }
  return "";
}

void write_header(const Header& header, uint8_t* to) {
  memset(to, 0, kHeaderBytes);
  memcpy(to, kMagic, sizeof kMagic);
  to[4] = kVersion;
  to[5] = uint8_t(header.stored);
  put(to + 6, header.flags);
  put(to + 8, header.spec);
  put(to + 16, header.tokens);
  put(to + 20, header.position);
  put(to + 24, header.recent);
  put(to + 28, header.payload);
  put(to + 32, header.side);
  put(to + 36, header.checksum);
  put(to + kSealed, crc32c(0, to, kSealed));
}

const char* read_header(const uint8_t* from, size_t count, Header* header) {
  if (count < kHeaderBytes) return "the block is shorter than its header";
  if (memcmp(from, kMagic, sizeof kMagic) != 0) return "this is no block";
  if (from[4] != kVersion) return "the block is of another version";
  if (get<uint32_t>(from + kSealed) != crc32c(0, from, kSealed)) return "the block's header has a wrong checksum";
  header->stored = Stored(from[5]);
  header->flags = get<uint16_t>(from + 6);
  header->spec = get<uint64_t>(from + 8);
  header->tokens = get<uint32_t>(from + 16);
  header->position = get<uint32_t>(from + 20);
  header->recent = get<uint32_t>(from + 24);
  header->payload = get<uint32_t>(from + 28);
  header->side = get<uint32_t>(from + 32);
  header->checksum = get<uint32_t>(from + 36);
  const bool reserved = get<uint32_t>(from + 40) != 0 || (header->flags & ~kHasChecksum) != 0;
  if (from[5] > kStoredMax || reserved) return "the block's header has unknown fields";
  if (header->payload != count - kHeaderBytes) return "the block is not as long as it says";
  return nullptr;
}

}  // namespace kvferry::codec
