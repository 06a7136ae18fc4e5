#include "merging.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "../core/crc32c.h"

namespace kvferry::codec {
namespace {

constexpr uint8_t kMagic[4] = {'K', 'V', 'F', 'M'};
constexpr uint8_t kVersion = 1;
constexpr size_t kSealed = 16, kHead = 20;
// Of two tokens that stand for themselves.
constexpr uint8_t kBothKept = 0x66;

void put(uint8_t* to, uint32_t number) {
  for (int i = 0; i < 4; i++) to[i] = uint8_t(number >> (8 * i));
}

uint32_t get(const uint8_t* from) { return uint32_t(from[0]) | uint32_t(from[1]) << 8 | uint32_t(from[2]) << 16 | uint32_t(from[3]) << 24; }

uint32_t seal(const uint8_t* block, size_t maps) { return crc32c(crc32c(0, block, kSealed), block + kHead, maps); }

std::vector<const uint8_t*> rows_of(const std::vector<uint8_t>& rows, size_t first, size_t count, size_t part_bytes) {
  std::vector<const uint8_t*> found;
  for (size_t part = 0; part < count; part++) found.push_back(rows.data() + (first + part) * part_bytes);
  return found;
}

}  // namespace

MergingCodec::MergingCodec(const MergeRules& rules, std::vector<bool> skipped, Spec keys, Spec values, Isa isa)
    : rules_(rules), skipped_(std::move(skipped)), keys_(std::move(keys), isa), values_(std::move(values), isa) {}

uint64_t MergingCodec::identity() const { return keys_.identity() * 0x9E3779B97F4A7C15u ^ values_.identity(); }

size_t MergingCodec::bound(uint32_t tokens) const { return kHead + maps_bytes(tokens) + keys_.bound(tokens) + values_.bound(tokens); }

Encoded MergingCodec::encode(const uint8_t* const* parts, uint32_t tokens, uint32_t position, uint32_t end, uint8_t* out, Workspace* space) const {
  const size_t maps = maps_bytes(tokens), each = map_bytes(tokens);
  uint8_t* at = out + kHead;
  uint32_t rows = 0;
  std::vector<const uint8_t*> keys(parts, parts + layers()), values(parts + layers(), parts + 2 * layers());
  const bool is_finite = merge(parts, {tokens, position, std::max(end, position + tokens)}, space);
  if (is_finite) {
    for (const MergedLayer& layer : space->merged) {
      if (!layer.map.empty()) memcpy(at, layer.map.data(), layer.map.size());
      at += layer.map.size();
      rows = std::max(rows, *std::max_element(layer.counts.begin(), layer.counts.end()));
    }
    fill_up(tokens, rows, space);
    keys = rows_of(space->filled, 0, layers(), part_bytes(rows));
    values = rows_of(space->filled, layers(), layers(), part_bytes(rows));
  } else {
    rows = tokens;
    for (; at < out + kHead + maps; at += each) {
      memset(at, kBothKept, each);
      if (tokens % 2 == 1) at[each - 1] &= 15;
    }
  }
  // What was merged is behind nothing that was not: to the end it is as many tokens as before.
  const uint32_t rows_end = std::max(end, position + tokens) - (tokens - rows);
  const Encoded k = keys_.encode(keys.data(), rows, position, rows_end, at, space);
  const Encoded v = values_.encode(values.data(), rows, position, rows_end, at + k.bytes, space);
  memset(out, 0, kHead);
  memcpy(out, kMagic, sizeof kMagic);
  out[4] = kVersion;
  put(out + 8, rows);
  put(out + 12, uint32_t(k.bytes));
  put(out + kSealed, seal(out, maps));
  return {kHead + maps + k.bytes + v.bytes, is_finite ? Stored::no : Stored::not_finite};
}

std::string MergingCodec::decode(const uint8_t* block, size_t bytes, uint8_t* const* parts, uint32_t tokens, uint32_t position,
                                 Workspace* space) const {
  const size_t maps = maps_bytes(tokens), each = map_bytes(tokens), front = kHead + maps;
  if (bytes < front) return "the chunk is shorter than its map";
  if (memcmp(block, kMagic, sizeof kMagic) != 0) return "this is no merged chunk";
  if (block[4] != kVersion || block[5] != 0 || block[6] != 0 || block[7] != 0) return "the merged chunk is of another version";
  if (get(block + kSealed) != seal(block, maps)) return "the merged chunk's map has a wrong checksum";
  const uint32_t rows = get(block + 8), key_bytes = get(block + 12);
  if (key_bytes > bytes - front) return "the merged chunk is shorter than its keys";
  uint32_t longest = 0;
  space->sets.resize(size_t(layers()) * heads());
  for (size_t at = 0; at < space->sets.size(); at++) {
    const std::string problem = read_map(block + kHead + at * each, tokens, &space->sets[at]);
    if (!problem.empty()) return "head " + std::to_string(at) + ": " + problem;
    longest = std::max(longest, space->sets[at].count());
  }
  if (rows != longest) return "the merged chunk has another number of rows than its map";
  const size_t row_bytes = part_bytes(rows);
  space->filled.resize(parts_bytes(rows));
  for (uint32_t side = 0; side < 2; side++) {
    std::vector<uint8_t*> filled;
    for (size_t layer = 0; layer < layers(); layer++) filled.push_back(space->filled.data() + (side * layers() + layer) * row_bytes);
    const uint8_t* const from = block + front + (side == 0 ? 0 : key_bytes);
    const size_t count = side == 0 ? key_bytes : bytes - front - key_bytes;
    const std::string problem = (side == 0 ? keys_ : values_).decode(from, count, filled.data(), rows, position, space);
    if (!problem.empty()) return (side == 0 ? "keys: " : "values: ") + problem;
    for (size_t layer = 0; layer < layers(); layer++) expand(filled[layer], layer, tokens, parts[side * layers() + layer], *space);
  }
  return "";
}

bool MergingCodec::merge(const uint8_t* const* parts, const MergeSpan& span, Workspace* space) const {
  const Spec& spec = keys_.spec();
  const MergeShape shape = {spec.element, spec.heads, spec.channels, spec.channels, spec.part_width()};
  space->merged.resize(layers());
  for (uint32_t layer = 0; layer < layers(); layer++) {
    const bool is_merged = merge_layer(rules_, shape, span, parts[layer], parts[layers() + layer], nullptr, skipped_[layer],
                                       &space->merged[layer], &space->merge);
    if (!is_merged) return false;
  }
  return true;
}

void MergingCodec::fill_up(uint32_t tokens, uint32_t rows, Workspace* space) const {
  const size_t head_bytes = keys_.spec().channels * element_bytes(keys_.spec().element), row_bytes = heads() * head_bytes;
  space->filled.resize(parts_bytes(rows));
  for (size_t part = 0; part < parts(); part++) {
    const MergedLayer& layer = space->merged[part % layers()];
    uint8_t* const to = space->filled.data() + part * part_bytes(rows);
    for (size_t head = 0; head < heads(); head++) {
      const uint8_t* const from = (part < layers() ? layer.keys : layer.values).data() + head * tokens * head_bytes;
      for (size_t row = 0; row < rows; row++) {
        // With its last row, which costs next to nothing.
        const size_t found = std::min<size_t>(row, layer.counts[head] - 1);
        memcpy(to + row * row_bytes + head * head_bytes, from + found * head_bytes, head_bytes);
      }
    }
  }
}

void MergingCodec::expand(const uint8_t* rows, size_t layer, uint32_t tokens, uint8_t* part, const Workspace& space) const {
  const size_t head_bytes = keys_.spec().channels * element_bytes(keys_.spec().element), row_bytes = heads() * head_bytes;
  for (size_t token = 0; token < tokens; token++) {
    for (size_t head = 0; head < heads(); head++, part += head_bytes) {
      const uint32_t row = space.sets[layer * heads() + head].set_of[token];
      memcpy(part, rows + row * row_bytes + head * head_bytes, head_bytes);
    }
  }
}

}  // namespace kvferry::codec
