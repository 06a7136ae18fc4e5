// Chunks as lanes code and checksum them: what was gathered through ChunkCodec, and CRC32C of what travels, a piece at a time. Each alone and both together,
// and both with blocks that carry a checksum of what they decode to.
#pragma once
#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "codec/shared.h"
#include "codec/tile.h"
#include "codec_case.h"
#include "codec_tiles.h"
#include "core/crc32c.h"

namespace chunks {

using namespace kvferry::codec;
using kvferry::CodedChunk;
using kvferry::crc32c;

// Whole tokens of transport/limits.ts's chunkBytesDefault, and a piece of native/tcp/lane.h.
constexpr size_t kTokens = (1 << 20) / (2 * kWidth), kBytes = kTokens * 2 * kWidth, kPieceBytes = 256 << 10;
constexpr size_t kCount = 2 * kValues / kBytes;

inline uint32_t checksum(const uint8_t* bytes, size_t count) {
  uint32_t crc = 0;
  for (size_t at = 0; at < count; at += kPieceBytes) crc = crc32c(crc, bytes + at, std::min(kPieceBytes, count - at));
  return crc;
}

// K and V in turns, with the bytes that they travel as.
struct Profile {
  Shared k, v;
  std::vector<std::vector<uint8_t>> coded;
  Profile(const Spec& key, const Spec& value, Isa isa, const std::vector<uint8_t>& values)
      : k(std::make_unique<TileCodec>(key, isa)), v(std::make_unique<TileCodec>(value, isa)) {
    for (size_t chunk = 0; chunk < kCount; chunk++) {
      coded.emplace_back(of(chunk).bound(kBytes));
      coded.back().resize(of(chunk).encode(about(chunk), values.data() + chunk * kBytes, coded.back().data()));
      if (coded.back().empty()) exit(4);
    }
  }
  const Shared& of(size_t chunk) const { return chunk % 2 == 0 ? k : v; }
  static CodedChunk about(size_t chunk) { return {kBytes, uint32_t(chunk * kTokens), uint32_t(kCount * kTokens)}; }
};

// Room as a lane has it: what it sends or has received, and what was gathered or is to be scattered. What was gathered, or the kernel has copied here, is in
// cache as far as it fits.
struct Lane {
  std::vector<uint8_t> travels, stretches = std::vector<uint8_t>(kBytes, 1);
};

enum class Way { codec, crc, both };

inline size_t encode(const Profile& profile, const std::vector<uint8_t>& values, Way way, Lane* lane) {
  size_t sum = 0;
  for (size_t chunk = 0; chunk < kCount; chunk++) {
    size_t bytes = 0;
    const auto code = [&] { bytes = profile.of(chunk).encode(Profile::about(chunk), lane->stretches.data(), lane->travels.data()); };
    aside([&] {
      lane->travels.resize(std::max(lane->travels.size(), profile.of(chunk).bound(kBytes)));
      memcpy(lane->stretches.data(), values.data() + chunk * kBytes, kBytes);
      if (way == Way::crc) code();
    });
    if (way != Way::crc) code();
    if (way != Way::codec) checksum(lane->travels.data(), bytes);
    sum += bytes;
  }
  return sum;
}

inline size_t decode(const Profile& profile, Way way, Lane* lane) {
  size_t sum = 0;
  for (size_t chunk = 0; chunk < kCount; chunk++) {
    const std::vector<uint8_t>& coded = profile.coded[chunk];
    aside([&] {
      lane->travels.resize(std::max(lane->travels.size(), coded.size()));
      memcpy(lane->travels.data(), coded.data(), coded.size());
    });
    if (way != Way::codec) checksum(lane->travels.data(), coded.size());
    if (way != Way::crc && !profile.of(chunk).decode(Profile::about(chunk), lane->travels.data(), coded.size(), lane->stretches.data())) exit(5);
    sum += coded.size();
  }
  return sum;
}

inline void add(std::vector<Case>* cases, const std::string& name, Spec key, Spec value, Isa isa, const std::vector<uint8_t>& values) {
  static Lane lane;
  const auto plain = std::make_shared<Profile>(key, value, isa, values);
  key.verify = value.verify = true;
  const auto verified = std::make_shared<Profile>(key, value, isa, values);
  const auto add_way = [&](const std::string& what, const char* way, std::function<size_t()> run) {
    cases->push_back({name + what, isa_name(isa), std::move(run), way, kCount * kBytes / 2});
  };
  for (const auto& [way, word] : {std::pair(Way::codec, "codec"), std::pair(Way::crc, "crc"), std::pair(Way::both, "both")}) {
    add_way(" encode", word, [=, &values, way = way] { return encode(*plain, values, way, &lane); });
    add_way(" decode", word, [=, way = way] { return decode(*plain, way, &lane); });
  }
  add_way(" encode", "verified", [=, &values] { return encode(*verified, values, Way::both, &lane); });
  add_way(" decode", "verified", [=] { return decode(*verified, Way::both, &lane); });
}

inline void add_all(std::vector<Case>* cases, Isa isa, const std::vector<uint8_t>& values, const tiles::Columns& columns) {
  for (const auto& [name, key, value] : tiles::profiles(columns)) add(cases, name, key, value, isa, values);
}

}  // namespace chunks
