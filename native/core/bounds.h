// The mover's share of transport/limits.ts, given by TypeScript when a mover is made.
#pragma once
#include <cstdint>

namespace kvferry {

struct Bounds {
  uint32_t connections;
  uint32_t lanes;              // of one connection
  uint32_t placements;
  uint32_t submissions;        // entries of the submission array
  uint32_t completions;        // entries of the completion array
  uint32_t send_queue_chunks;  // of one connection, not yet taken by a lane
  uint32_t chunk_bytes;
  uint32_t message_bytes;
  uint32_t greeting_bytes;     // a message of who dialled and is not admitted yet
  uint32_t queue_bytes;        // control messages of one connection, each way
  uint32_t preamble_timeout_ms;
  uint32_t connect_timeout_ms;
  uint32_t not_sent_low_bytes;  // TCP_NOTSENT_LOWAT of lanes that come in
  uint32_t greetings;          // accepted sockets whose preamble has not come
  uint32_t records_per_key;    // TLS records that are sent under one key
};

// Chunks that a lane may have sent without an answer; the peer keeps as many answers for it.
constexpr uint32_t kUnansweredChunks = 4096;

}  // namespace kvferry
