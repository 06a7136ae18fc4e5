// What makes blocks of tiles and tiles of blocks. A tile is `parts` planes of some tokens, each a canonical stream (token by token, KV head by KV head, channel
// by channel). Any number of threads may use one, each with a workspace of its own.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "block.h"

namespace kvferry::codec {

struct Workspace;

struct Encoded {
  size_t bytes = 0;
  Stored stored = Stored::no;
};

class TileCoder {
 public:
  virtual ~TileCoder() = default;
  // Of all that decides what its blocks mean.
  virtual uint64_t identity() const = 0;
  virtual uint32_t parts() const = 0;
  // Bytes of one part of so many tokens.
  virtual size_t part_bytes(uint32_t tokens) const = 0;
  // So many tokens are no more than a tile may have.
  virtual bool takes(uint32_t tokens) const = 0;
  // No block of so many tokens is longer.
  virtual size_t bound(uint32_t tokens) const = 0;
  // Each of `parts` has part_bytes, `out` has bound. The tokens are at positions from `position` on, and `end` is behind the last of the sequence.
  virtual Encoded encode(const uint8_t* const* parts, uint32_t tokens, uint32_t position, uint32_t end, uint8_t* out, Workspace* space) const = 0;
  // "" or why this is no block of that tile, in words. What the parts hold then means nothing.
  virtual std::string decode(const uint8_t* block, size_t bytes, uint8_t* const* parts, uint32_t tokens, uint32_t position,
                             Workspace* space) const = 0;
};

}  // namespace kvferry::codec
