#include "frame.h"

#include <bit>
#include <cstring>

#include "crc32c.h"

namespace kvferry {
namespace {

static_assert(std::endian::native == std::endian::little, "the wire is little-endian and so are the hosts we build for");

constexpr uint8_t kPreambleMagic[4] = {'K', 'V', 'F', 'Y'};
constexpr uint8_t kFrameMagic[4] = {'K', 'V', 'F', 'C'};

template <typename Number>
void put(uint8_t* to, size_t offset, Number value) {
  memcpy(to + offset, &value, sizeof value);
}

template <typename Number>
Number get(const uint8_t* from, size_t offset) {
  Number value;
  memcpy(&value, from + offset, sizeof value);
  return value;
}

bool answers(FrameType type) { return type == FrameType::ack || type == FrameType::nack; }

}  // namespace

void encode_header(const FrameHeader& header, uint8_t* to) {
  memcpy(to, kFrameMagic, 4);
  put<uint8_t>(to, 4, kWireVersion);
  put<uint8_t>(to, 5, uint8_t(header.type));
  put<uint16_t>(to, 6, header.flags);
  put<uint64_t>(to, 8, header.grant);
  put<uint32_t>(to, 16, header.generation);
  put<uint32_t>(to, 20, header.chunk);
  put<uint32_t>(to, 24, header.bytes);
  put<uint32_t>(to, 28, header.sequence);
  put<uint32_t>(to, 32, header.status);
  put<uint32_t>(to, 36, 0);
  put<uint32_t>(to, 40, 0);
  put<uint32_t>(to, 44, crc32c(0, to, 44));
}

bool decode_header(const uint8_t* from, uint32_t chunk_bytes_max, FrameHeader* header) {
  if (memcmp(from, kFrameMagic, 4) != 0 || get<uint32_t>(from, 44) != crc32c(0, from, 44)) return false;
  const uint8_t type = get<uint8_t>(from, 5);
  if (get<uint8_t>(from, 4) != kWireVersion || type < 1 || type > 6) return false;
  header->type = FrameType(type);
  header->flags = get<uint16_t>(from, 6);
  header->grant = get<uint64_t>(from, 8);
  header->generation = get<uint32_t>(from, 16);
  header->chunk = get<uint32_t>(from, 20);
  header->bytes = get<uint32_t>(from, 24);
  header->sequence = get<uint32_t>(from, 28);
  header->status = get<uint32_t>(from, 32);
  if ((header->flags & ~(kFlagChecksum | kFlagCoded)) != 0 || get<uint64_t>(from, 36) != 0 || (header->grant >> 53) != 0) return false;
  if (header->status != 0 && !answers(header->type)) return false;
  if ((header->flags & kFlagCoded) != 0 && header->type != FrameType::chunk) return false;
  if (header->type != FrameType::chunk && header->type != FrameType::pad) return header->bytes == 0;
  return header->bytes >= 1 && header->bytes <= chunk_bytes_max;
}

void encode_preamble(const Preamble& preamble, uint8_t* to) {
  memset(to, 0, kPreambleBytes);
  memcpy(to, kPreambleMagic, 4);
  put<uint8_t>(to, 4, preamble.version);
  put<uint8_t>(to, 5, uint8_t(preamble.kind));
  put<uint16_t>(to, 6, preamble.lane);
  memcpy(to + 8, preamble.token, kTokenBytes);
  put<uint32_t>(to, 44, crc32c(0, to, 44));
}

bool decode_preamble(const uint8_t* from, Preamble* preamble) {
  if (memcmp(from, kPreambleMagic, 4) != 0 || get<uint32_t>(from, 44) != crc32c(0, from, 44)) return false;
  const uint8_t kind = get<uint8_t>(from, 5);
  if (kind > 1) return false;
  for (size_t offset = 24; offset < 44; offset++) {
    if (from[offset] != 0) return false;
  }
  preamble->version = get<uint8_t>(from, 4);
  preamble->kind = PreambleKind(kind);
  preamble->lane = get<uint16_t>(from, 6);
  memcpy(preamble->token, from + 8, kTokenBytes);
  if (preamble->kind == PreambleKind::lane) return true;
  const uint8_t none[kTokenBytes] = {};
  return preamble->lane == 0 && memcmp(preamble->token, none, kTokenBytes) == 0;
}

void encode_message_head(uint32_t bytes, uint32_t crc, uint8_t* to) {
  put<uint32_t>(to, 0, bytes);
  put<uint32_t>(to, 4, crc);
}

void decode_message_head(const uint8_t* from, uint32_t* bytes, uint32_t* crc) {
  *bytes = get<uint32_t>(from, 0);
  *crc = get<uint32_t>(from, 4);
}

void encode_trailer(uint32_t crc, uint32_t verdict, uint8_t* to) {
  put<uint32_t>(to, 0, crc);
  put<uint32_t>(to, 4, verdict);
}

void decode_trailer(const uint8_t* from, uint32_t* crc, uint32_t* verdict) {
  *crc = get<uint32_t>(from, 0);
  *verdict = get<uint32_t>(from, 4);
}

}  // namespace kvferry
