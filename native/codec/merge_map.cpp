#include "merge_map.h"

#include <algorithm>

namespace kvferry::codec {
namespace {

constexpr uint8_t kPivot = 4;
constexpr uint32_t kNone = UINT32_MAX;

uint8_t bits_at(const uint8_t* map, uint32_t token) { return map[token >> 1] >> (4 * (token & 1)) & 15; }

}  // namespace

void sets_of(const uint8_t* marks, uint32_t tokens, MergeSets* sets) {
  sets->set_of.resize(tokens);
  sets->sizes.clear();
  uint32_t open = kNone;
  for (uint32_t token = 0; token < tokens; token++) {
    if (marks[token] == kJoined && open != kNone) {
      sets->set_of[token] = open;
      sets->sizes[open]++;
      continue;
    }
    const uint32_t set = sets->count();
    sets->set_of[token] = set;
    sets->sizes.push_back(1);
    if (marks[token] != kKept) open = set;
  }
}

void write_map(const uint8_t* marks, uint32_t tokens, const std::vector<uint32_t>& pivots, uint8_t* map) {
  std::fill_n(map, map_bytes(tokens), uint8_t(0));
  for (uint32_t token = 0; token < tokens; token++) map[token >> 1] |= uint8_t(marks[token] << (4 * (token & 1)));
  for (const uint32_t token : pivots) map[token >> 1] |= uint8_t(kPivot << (4 * (token & 1)));
}

std::string read_map(const uint8_t* map, uint32_t tokens, MergeSets* sets) {
  std::vector<uint8_t> marks(tokens);
  bool is_open = false;
  for (uint32_t token = 0; token < tokens; token++) {
    const uint8_t bits = bits_at(map, token), mark = bits & 3;
    if (mark > kKept || bits > (kKept | kPivot) || (mark == kJoined && !is_open))
      return "token " + std::to_string(token) + " has " + std::to_string(bits);
    is_open = is_open || mark != kKept;
    marks[token] = mark;
  }
  if (tokens % 2 == 1 && map[tokens >> 1] >> 4 != 0) return "there is something behind the last token";
  sets_of(marks.data(), tokens, sets);
  sets->pivots.assign(sets->count(), kNone);
  std::vector<uint32_t> pivots(sets->count());
  for (uint32_t token = 0; token < tokens; token++) {
    if ((bits_at(map, token) & kPivot) == 0) continue;
    sets->pivots[sets->set_of[token]] = token;
    pivots[sets->set_of[token]]++;
  }
  for (uint32_t token = 0; token < tokens; token++) {
    if (pivots[sets->set_of[token]] != 1) return "the set of token " + std::to_string(token) + " has not one pivot";
  }
  return "";
}

}  // namespace kvferry::codec
