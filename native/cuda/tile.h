// What kernels know of a codec, of paged KV and of the tiles of a batch. All addresses are the device's.
#pragma once
#include <cstdint>

#include "../codec/spec.h"
#include "grid.h"

namespace kvferry::cuda {

using codec::Axis;
using codec::Element;
using codec::Fp8;
using codec::Pairing;
using codec::Quantizer;

// A thread has so many neighbouring channels of one head of one token.
constexpr uint32_t kRun = 8;
constexpr uint32_t kRowThreads = 128;

// A part of a tile in paged memory: native/core/runs.h says what a plane is. Its blocks begin at `list` in the table of all blocks.
struct PagedPlane {
  uint64_t offset, block_stride, token_stride, head_stride, channel_stride;
  uint32_t tokens, first_token, list, unused;
};

struct Paged {
  uint8_t* memory;
  const PagedPlane* planes;  // of each part
  const uint32_t* blocks;
};

// A spec's shape and transform. Arrays "of the width" have one number for each column, nullptr where there is no such stage.
struct Shape {
  Element element;
  uint32_t parts, heads, channels;
  uint32_t lanes_log;  // threads of a head are a power of two, so that each warp has whole heads
  uint32_t pairs;
  Pairing pairing;
  const float* mean;  // of the width, as the next three
  const float* scale;
  const float* unscale;
  const float* signs;
  float norm;
  const float* angles;  // of each row of the batch: cosines, then sines

  KVFERRY_DEVICE_MEMBER uint32_t lanes() const { return 1u << lanes_log; }
  KVFERRY_DEVICE_MEMBER uint32_t all_heads() const { return parts * heads; }
  KVFERRY_DEVICE_MEMBER uint32_t width() const { return parts * heads * channels; }
  KVFERRY_DEVICE_MEMBER uint32_t element_bytes() const { return element == Element::f32 ? 4 : 2; }
};

// What went wrong with a tile, as bits, so that it does not matter who is first.
constexpr uint32_t kIncompressible = 1, kNotFinite = 2, kOutOfRange = 4, kHarmed = 8;

// Sections of a block lie where `block`, `parameters` and `codes` say; rows of the batch are the coded tokens of one tile after those of another.
struct Tile {
  uint8_t* block;
  uint8_t* codes;    // bytes, or packed where they lie in the block
  uint8_t* stream;   // in the block, behind the parameters
  uint32_t* escapes;  // pairs of place and value, `room` of them
  uint32_t token;  // of the planes' streams, the first of the tile
  uint32_t tokens, position, exempt, coded, recent;
  uint32_t row;
  uint32_t room;
  uint32_t stream_bytes, side_bytes;  // while decoding
  uint32_t padding;  // zeros in front of the parameters, so that nvCOMP's stream is aligned
};

struct TileState {
  uint32_t wrong;
  uint32_t escapes;
  uint32_t stream_bytes, side_bytes;
};

KVFERRY_DEVICE uint32_t divided_up(uint32_t number, uint32_t by) { return (number + by - 1) / by; }

}  // namespace kvferry::cuda
