// The codec of a profile that merges tokens: a tile is keys and values of the same layers, part by part, and its block is a map with a block of each, of what is left
// (schemas/codec.md, "A merged chunk"). A decoder gives each token what its set has.
#pragma once
#include <vector>

#include "merge.h"
#include "tile.h"

namespace kvferry::codec {

class MergingCodec : public TileCoder {
 public:
  // Keys and values have one shape, `skipped` a flag for each of their parts; there is no problem with either.
  MergingCodec(const MergeRules& rules, std::vector<bool> skipped, Spec keys, Spec values, Isa isa);

  uint64_t identity() const override;
  uint32_t parts() const override { return 2 * layers(); }
  size_t part_bytes(uint32_t tokens) const override { return keys_.part_bytes(tokens); }
  bool takes(uint32_t tokens) const override { return keys_.takes(tokens); }
  size_t bound(uint32_t tokens) const override;
  Encoded encode(const uint8_t* const* parts, uint32_t tokens, uint32_t position, uint32_t end, uint8_t* out, Workspace* space) const override;
  std::string decode(const uint8_t* block, size_t bytes, uint8_t* const* parts, uint32_t tokens, uint32_t position, Workspace* space) const override;

 private:
  uint32_t layers() const { return keys_.spec().parts; }
  uint32_t heads() const { return keys_.spec().heads; }
  // Of all parts.
  size_t parts_bytes(uint32_t rows) const { return parts() * part_bytes(rows); }
  size_t maps_bytes(uint32_t tokens) const { return size_t(layers()) * heads() * map_bytes(tokens); }
  // False: nothing is merged, because some value is no number.
  bool merge(const uint8_t* const* parts, const MergeSpan& span, Workspace* space) const;
  // All heads filled up to so many rows, as tiles have them.
  void fill_up(uint32_t tokens, uint32_t rows, Workspace* space) const;
  void expand(const uint8_t* rows, size_t layer, uint32_t tokens, uint8_t* part, const Workspace& space) const;

  const MergeRules rules_;
  const std::vector<bool> skipped_;
  const TileCodec keys_, values_;
};

}  // namespace kvferry::codec
