// What JavaScript gives to the mover, checked once more: the wrapper has named what is wrong, here nothing may crash.
#pragma once
#include <napi.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "../core/mover.h"

namespace kvferry {

struct Bytes {
  const uint8_t* data = nullptr;
  size_t count = 0;
};

void throw_failure(Napi::Env env, const Failure& failure);
Napi::Value endpoint_value(Napi::Env env, const Endpoint& endpoint);
Napi::Value tls_peer_value(Napi::Env env, const TlsPeer& peer);
Napi::Value lane_infos_value(Napi::Env env, const std::vector<LaneInfo>& infos);

// Reads arguments by position. The first wrong one throws (in JavaScript) and makes `failed` true; what is read after it is empty.
class Arguments {
 public:
  explicit Arguments(const Napi::CallbackInfo& info) : info_(info) {}
  bool failed() const { return failed_; }

  template <typename Number>
  Number number(size_t index) {
    return to_number<Number>(info_[index]);
  }
  std::string text(size_t index);
  std::vector<std::string> texts(size_t index);
  Bytes bytes(size_t index);
  const uint8_t* token(size_t index);
  Napi::Function function(size_t index);
  Bounds bounds(size_t index);
  // certificate, key, authorities, denied from `index` on.
  TlsMaterial tls_material(size_t index);
  // paceBytesPerSecond, notSentLowBytes, congestionControl, socketBufferBytes, dscp from `index` on.
  LaneOptions lane_options(size_t index);
  // flags, grant, generation, region, planes, blockLists, chunks, committed, codecs, position from `index` on; transport/native.ts has the layout.
  PlacementSpec placement(size_t index);

 private:
  template <typename Number>
  Number to_number(Napi::Value value) {
    constexpr double most = std::min<double>(double(std::numeric_limits<Number>::max()), 9007199254740991.0);
    if (failed_ || !value.IsNumber()) return Number(fail("a number"));
    const double number = value.As<Napi::Number>().DoubleValue();
    return number >= 0 && number <= most && number == std::floor(number) ? Number(number) : Number(fail("an integer in range"));
  }
  int fail(const char* wanted);
  bool read_block_lists(Napi::Value value, PlacementSpec* spec);
  bool read_chunks(Napi::Value value, PlacementSpec* spec);
  bool read_codecs(Napi::Value value, PlacementSpec* spec);

  const Napi::CallbackInfo& info_;
  bool failed_ = false;
};

}  // namespace kvferry
