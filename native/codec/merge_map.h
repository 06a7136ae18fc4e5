// Which tokens a merged one stands for, in four bits a token; schemas/codec.md has them ("Merged tokens"). Maps come from peers and files: every map that is read is
// one that is written.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace kvferry::codec {

// What became of a token.
enum Mark : uint8_t {
  kFirst = 0,   // begins a set
  kJoined = 1,  // goes with the last one before it that is not kept
  kKept = 2,    // alone; sets go on around it
};

// Whatever the marks are, each token is in one set. Sets are counted in the order of their first tokens.
struct MergeSets {
  std::vector<uint32_t> set_of;  // of each token
  std::vector<uint32_t> sizes;   // of each set
  std::vector<uint32_t> pivots;  // of each set, the token whose position stands for it

  uint32_t count() const { return uint32_t(sizes.size()); }
};

// Without pivots.
void sets_of(const uint8_t* marks, uint32_t tokens, MergeSets* sets);

constexpr size_t map_bytes(uint32_t tokens) { return size_t(tokens) / 2 + tokens % 2; }
// `map` has map_bytes.
void write_map(const uint8_t* marks, uint32_t tokens, const std::vector<uint32_t>& pivots, uint8_t* map);
// "" or why this is no map, in words; then `sets` means nothing.
std::string read_map(const uint8_t* map, uint32_t tokens, MergeSets* sets);

}  // namespace kvferry::codec
