// The numbers of schemas/errors.json that native code gives out.
#pragma once
#include <cstdint>
#include <string>

namespace kvferry {

enum class Code : uint32_t {
  none = 0,
  invalid_argument = 1,
  unsupported = 3,
  internal = 4,
  closed = 5,
  full = 7,
  cancelled = 8,
  address_unavailable = 10,
  connect_failed = 20,
  connect_timeout = 21,
  connection_lost = 22,
  lane_lost = 23,
  version_unsupported = 31,
  protocol_error = 32,
  tls_failed = 37,
  certificate_rejected = 38,
  checksum_mismatch = 40,
  duplicate_chunk = 41,
  chunk_busy = 42,
  grant_unknown = 43,
  codec_failed = 45,
  range_invalid = 65,
};

// An operating error as a value.
struct Failure {
  Code code = Code::none;
  std::string detail;
  explicit operator bool() const { return code != Code::none; }
};

}  // namespace kvferry
