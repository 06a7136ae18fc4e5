// A codec: one spec, and tiles to blocks and back by it; a block decodes alone.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "coding.h"
#include "merge.h"
#include "quantize.h"
#include "spec.h"
#include "tile_coder.h"
#include "transform.h"

namespace kvferry::codec {

// Memory for one call at a time; grows to what its largest tile needs (about five times the tile at most).
struct Workspace {
  Rows rows;
  Codes codes;
  std::vector<uint8_t> code_bytes;
  std::vector<uint8_t> decoded;  // of a block that carries a checksum
  Scratch scratch;
  // Of a tile whose tokens are merged: the layers, their rows as the codecs of keys and values see them, and what a map says.
  MergeSpace merge;
  std::vector<MergedLayer> merged;
  std::vector<uint8_t> filled;
  std::vector<MergeSets> sets;  // of each layer, each head
};

// 16 hexadecimal digits.
std::string name_of(uint64_t identity);

class TileCodec : public TileCoder {
 public:
  // `spec` has no problem.
  TileCodec(Spec spec, Isa isa);
  TileCodec(const TileCodec&) = delete;
  TileCodec& operator=(const TileCodec&) = delete;

  const Spec& spec() const { return spec_; }
  uint64_t identity() const override { return identity_; }
  uint32_t parts() const override { return spec_.parts; }
  size_t part_bytes(uint32_t tokens) const override { return tokens * spec_.part_width() * element_bytes(spec_.element); }
  bool takes(uint32_t tokens) const override;
  // Of what is not coded, exactly what a stored block has.
  size_t bound(uint32_t tokens) const override;
  // Of tokens at or behind `end` - recent nothing is lost.
  Encoded encode(const uint8_t* const* parts, uint32_t tokens, uint32_t position, uint32_t end, uint8_t* out, Workspace* space) const override;
  std::string decode(const uint8_t* block, size_t bytes, uint8_t* const* parts, uint32_t tokens, uint32_t position,
                     Workspace* space) const override;

 private:
  // How the tokens of a tile are shared out: as they are, coded, as they are.
  struct Share {
    size_t exempt, coded, recent;
  };
  Share share(uint32_t tokens, uint32_t position, size_t recent) const;
  size_t parameter_bytes(size_t rows) const;
  Stored encode_coded(const uint8_t* const* parts, const Share& share, uint32_t position, uint8_t* out, Header* header,
                      Workspace* space) const;
  Stored quantize(const uint8_t* const* parts, const Share& share, uint32_t position, Workspace* space) const;
  void read_anchors(const RowSet& set, Workspace* space) const;
  std::string decode_coded(const uint8_t* payload, const Header& header, uint8_t* const* parts, const Share& share, Workspace* space) const;
  bool dequantize(uint8_t* const* parts, const Share& share, uint32_t position, Workspace* space) const;
  uint32_t checksum(const uint8_t* const* parts, uint32_t tokens) const;
  uint32_t checksum_of_decoded(const uint8_t* block, size_t bytes, uint32_t tokens, uint32_t position, Workspace* space) const;

  const Spec spec_;
  const uint64_t identity_;
  const Transform transform_;
  const Quantization quantization_;
  const Coding coding_;
};

}  // namespace kvferry::codec
