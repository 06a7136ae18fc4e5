// Preamble and frame headers, as schemas/wire.md has them. Little-endian hosts only (checked where it matters: frame.cpp).
#pragma once
#include <cstddef>
#include <cstdint>

namespace kvferry {

constexpr size_t kPreambleBytes = 48;
constexpr size_t kHeaderBytes = 48;
constexpr size_t kTrailerBytes = 8;
constexpr size_t kTokenBytes = 16;
constexpr size_t kMessageHeadBytes = 8;
constexpr uint8_t kWireVersion = 1;
constexpr uint16_t kFlagChecksum = 1;
constexpr uint16_t kFlagCoded = 2;
constexpr uint32_t kVerdictWhole = 0;
constexpr uint32_t kVerdictAbandoned = 1;

enum class FrameType : uint8_t { chunk = 1, ack = 2, nack = 3, ping = 4, pong = 5, pad = 6 };

struct FrameHeader {
  FrameType type = FrameType::ping;
  uint16_t flags = 0;
  uint64_t grant = 0;
  uint32_t generation = 0;
  uint32_t chunk = 0;
  uint32_t bytes = 0;
  uint32_t sequence = 0;
  uint32_t status = 0;
};

void encode_header(const FrameHeader& header, uint8_t* to);
// False when anything is wrong with it: the lane is to be closed.
bool decode_header(const uint8_t* from, uint32_t chunk_bytes_max, FrameHeader* header);

enum class PreambleKind : uint8_t { control = 0, lane = 1 };

struct Preamble {
  uint8_t version = kWireVersion;
  PreambleKind kind = PreambleKind::control;
  uint16_t lane = 0;
  uint8_t token[kTokenBytes] = {};
};

void encode_preamble(const Preamble& preamble, uint8_t* to);
// False when magic, kind, reserved bytes or checksum are wrong; the version is for the caller to judge.
bool decode_preamble(const uint8_t* from, Preamble* preamble);

// Length and checksum in front of a control message.
void encode_message_head(uint32_t bytes, uint32_t crc, uint8_t* to);
void decode_message_head(const uint8_t* from, uint32_t* bytes, uint32_t* crc);

void encode_trailer(uint32_t crc, uint32_t verdict, uint8_t* to);
void decode_trailer(const uint8_t* from, uint32_t* crc, uint32_t* verdict);

}  // namespace kvferry
