// Tokens that travel as they are: exempt and recent ones, and all of a tile that did not shrink.
#pragma once
#include "rows.h"

namespace kvferry::cuda {

struct RawArguments {
  Shape shape;
  Paged kv;
  const Tile* tiles;
  const TileState* states;
  bool is_back;          // to pages
  uint32_t header_bytes;
};

// Raw tokens of a tile in the order of a block: exempt ones part by part, then recent ones; or all of them.
template <typename Block>
KVFERRY_DEVICE void raw(Block& block, const RawArguments& a) {
  const Tile tile = a.tiles[block.y()];
  const bool is_whole = a.states[block.y()].wrong != 0;
  const uint32_t exempt = is_whole ? tile.tokens : tile.exempt, recent = is_whole ? 0 : tile.recent;
  const uint32_t heads = a.shape.heads, lanes = a.shape.lanes(), bytes = a.shape.element_bytes();
  const uint32_t all = (exempt + recent) * a.shape.all_heads() * lanes;
  if (block.x() * Block::threads >= all) return;
  block.each([&](uint32_t thread) {
    uint32_t index = block.x() * Block::threads + thread;
    if (index >= all) return;
    const uint32_t of_exempt = exempt * a.shape.all_heads() * lanes;
    const bool is_recent = index >= of_exempt;
    if (is_recent) index -= of_exempt;
    const uint32_t rows = is_recent ? recent : exempt;
    const uint32_t channel = index % lanes * kRun, head = index / lanes % heads, row = index / lanes / heads % rows;
    const uint32_t part = index / lanes / heads / rows;
    if (channel >= a.shape.channels) return;
    const size_t place = ((size_t(part) * rows + row) * heads + head) * a.shape.channels + channel;
    const size_t before = is_recent ? size_t(exempt) * a.shape.width() : 0;
    uint8_t* in_block = tile.block + a.header_bytes + (before + place) * bytes;
    const uint32_t token = is_recent ? tile.tokens - recent + row : row;
    uint8_t* in_pages = address_of(a.kv, a.shape, tile.token + token, part * heads + head, channel);
    const uint64_t stride = a.kv.planes[part].channel_stride;
    if (stride == bytes && is_aligned(in_block, sizeof(Words)) && is_aligned(in_pages, sizeof(Words))) {
      for (uint32_t at = 0; at < kRun * bytes; at += sizeof(Words)) {
        if (a.is_back) {
          put(in_pages + at, take<Words>(in_block + at));
        } else {
          put(in_block + at, take<Words>(in_pages + at));
        }
      }
      return;
    }
    for (uint32_t i = 0; i < kRun; i++) {
      for (uint32_t byte = 0; byte < bytes; byte++) {
        uint8_t* one = in_block + i * bytes + byte;
        uint8_t* other = in_pages + i * stride + byte;
        *(a.is_back ? other : one) = *(a.is_back ? one : other);
      }
    }
  });
}

}  // namespace kvferry::cuda
