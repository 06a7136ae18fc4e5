// A head of a token in the registers of its threads, kRun channels each: from pages through the transform to floats, and back. The same bits as native/codec.
#pragma once
#include "../codec/value_codes.h"
#include "tile.h"

namespace kvferry::cuda {

// Where a thread's values are. Threads without any take part in what a warp does together.
struct Place {
  bool is_valid;
  uint32_t head, channel;  // of all heads; of the first value
  uint32_t row;            // of the tile's coded tokens
  KVFERRY_DEVICE_MEMBER uint32_t column(const Shape& shape) const { return head * shape.channels + channel; }
};

template <typename Block>
using Floats = typename Block::template Each<float[kRun]>;
template <typename Block>
using Places = typename Block::template Each<Place>;

// Thread's place if rows of a head follow one another: `rows` of each.
KVFERRY_DEVICE Place place_of(const Shape& shape, uint32_t index, uint32_t rows) {
  const uint32_t vector = index >> shape.lanes_log, channel = (index & (shape.lanes() - 1)) * kRun;
  const uint32_t head = rows == 0 ? shape.all_heads() : vector / rows;
  return {head < shape.all_heads() && channel < shape.channels, head, channel, vector - head * rows};
}

KVFERRY_DEVICE uint8_t* address_of(const Paged& kv, const Shape& shape, uint32_t token, uint32_t head, uint32_t channel) {
  // Divisions of 32 bits: those of 64 would be most of what a thread does.
  const uint32_t part = head / shape.heads;
  const PagedPlane& plane = kv.planes[part];
  const uint32_t in_stream = token + plane.first_token, page = in_stream / plane.tokens;
  return kv.memory + plane.offset + kv.blocks[plane.list + page] * plane.block_stride + (in_stream - page * plane.tokens) * plane.token_stride +
         (head - part * shape.heads) * plane.head_stride + channel * plane.channel_stride;
}

KVFERRY_DEVICE float float_at(const uint8_t* at, Element element) {
  if (element == Element::f32) return take<float>(at);
  const uint16_t half = take<uint16_t>(at);
  return element == Element::bf16 ? codec::from_bf16(half) : codec::from_f16(half);
}

template <bool kFinite>
KVFERRY_DEVICE uint16_t half_of(float value, Element element) {
  if (element == Element::bf16) return codec::limited<kFinite, uint16_t>(codec::to_bf16(value), 0x7F80);
  return codec::limited<kFinite, uint16_t>(codec::to_f16(value), 0x7C00);
}

KVFERRY_DEVICE void load_run(const uint8_t* at, uint64_t stride, Element element, float* to) {
  const bool is_wide = element != Element::f32 && stride == 2 && is_aligned(at, sizeof(Words));
  if (!is_wide) {
    for (uint32_t i = 0; i < kRun; i++) to[i] = float_at(at + i * stride, element);
    return;
  }
  const Words words = take<Words>(at);
  for (uint32_t i = 0; i < kRun; i++) {
    const uint16_t half = uint16_t(words.word[i / 2] >> (i % 2 * 16));
    to[i] = element == Element::bf16 ? codec::from_bf16(half) : codec::from_f16(half);
  }
}

// kFinite: what would round to infinity becomes the largest finite element.
template <bool kFinite>
KVFERRY_DEVICE void store_run(uint8_t* at, uint64_t stride, Element element, const float* from) {
  if (element == Element::f32) {
    for (uint32_t i = 0; i < kRun; i++) {
      put(at + i * stride, codec::limited<kFinite, uint32_t>(codec::bits_of(codec::one_nan(from[i])), codec::kInfinity));
    }
    return;
  }
  if (stride != 2 || !is_aligned(at, sizeof(Words))) {
    for (uint32_t i = 0; i < kRun; i++) put(at + i * stride, half_of<kFinite>(from[i], element));
    return;
  }
  Words words = {};
  for (uint32_t i = 0; i < kRun; i++) words.word[i / 2] |= uint32_t(half_of<kFinite>(from[i], element)) << (i % 2 * 16);
  put(at, words);
}

KVFERRY_DEVICE bool are_finite(const float* values) {
  bool are = true;
  for (uint32_t i = 0; i < kRun; i++) are = are && (codec::bits_of(values[i]) & 0x7FFFFFFF) < codec::kInfinity;
  return are;
}

// Turns channels by their angles; `back` is the way of an encoder.
template <typename Block>
KVFERRY_DEVICE void turn(Block& block, const Shape& shape, const Tile& tile, Places<Block>& places, Floats<Block>& values, bool back) {
  const uint32_t pairs = shape.pairs;
  const auto angles_of = [&](uint32_t thread) { return shape.angles + size_t(tile.row + places[thread].row) * 2 * pairs; };
  if (shape.pairing == Pairing::adjacent) {
    block.each([&](uint32_t thread) {
      float* own = values[thread];
      for (uint32_t i = 0; i < kRun / 2; i++) {
        const uint32_t pair = places[thread].channel / 2 + i;
        if (!places[thread].is_valid || pair >= pairs) continue;
        const float cosine = angles_of(thread)[pair], sine = angles_of(thread)[pairs + pair];
        codec::turn_pair(own + 2 * i, own + 2 * i + 1, cosine, back ? -sine : sine);
      }
    });
    return;
  }
  const uint32_t apart = pairs / kRun;  // threads from one of a pair to the other
  Floats<Block> others;
  const auto lane_of = [&](uint32_t thread) { return thread & (shape.lanes() - 1); };
  block.fetch(values, [&](uint32_t thread) {
    const uint32_t lane = lane_of(thread);
    return lane < apart ? thread + apart : lane < 2 * apart ? thread - apart : thread;
  }, others);
  block.each([&](uint32_t thread) {
    const uint32_t lane = lane_of(thread);
    if (!places[thread].is_valid || lane >= 2 * apart) return;
    for (uint32_t i = 0; i < kRun; i++) {
      const uint32_t pair = lane % apart * kRun + i;
      const float cosine = angles_of(thread)[pair], sine = angles_of(thread)[pairs + pair];
      float first = lane < apart ? values[thread][i] : others[thread][i], second = lane < apart ? others[thread][i] : values[thread][i];
      codec::turn_pair(&first, &second, cosine, back ? -sine : sine);
      values[thread][i] = lane < apart ? first : second;
    }
  });
}

// Butterflies over a head, as native/codec adds them up.
template <typename Block>
KVFERRY_DEVICE void butterflies(Block& block, const Shape& shape, Floats<Block>& values) {
  block.each([&](uint32_t thread) {
    for (uint32_t half = 1; half < kRun && half < shape.channels; half *= 2) {
      for (uint32_t i = 0; i < kRun; i++) {
        if ((i & half) != 0) continue;
        const float a = values[thread][i], b = values[thread][i + half];
        values[thread][i] = a + b;
        values[thread][i + half] = a - b;
      }
    }
  });
  for (uint32_t half = 1; half < shape.lanes(); half *= 2) {
    Floats<Block> others;
    block.fetch(values, [&](uint32_t thread) { return thread ^ half; }, others);
    block.each([&](uint32_t thread) {
      const bool is_below = (thread & half) == 0;
      for (uint32_t i = 0; i < kRun; i++) {
        values[thread][i] = is_below ? values[thread][i] + others[thread][i] : others[thread][i] - values[thread][i];
      }
    });
  }
}

// Elements of each thread's place, transformed.
template <typename Block>
KVFERRY_DEVICE void forward(Block& block, const Shape& shape, const Paged& kv, const Tile& tile, Places<Block>& places,
                            Floats<Block>& values) {
  block.each([&](uint32_t thread) {
    const Place& place = places[thread];
    for (uint32_t i = 0; i < kRun; i++) values[thread][i] = 0;
    if (!place.is_valid) return;
    const uint8_t* at = address_of(kv, shape, tile.token + tile.exempt + place.row, place.head, place.channel);
    load_run(at, kv.planes[place.head / shape.heads].channel_stride, shape.element, values[thread]);
  });
  if (shape.pairs != 0) turn(block, shape, tile, places, values, true);
  if (shape.mean != nullptr) {
    block.each([&](uint32_t thread) {
      if (!places[thread].is_valid) return;
      const uint32_t column = places[thread].column(shape);
      for (uint32_t i = 0; i < kRun; i++) values[thread][i] = (values[thread][i] - shape.mean[column + i]) * shape.scale[column + i];
    });
  }
  if (shape.signs == nullptr) return;
  block.each([&](uint32_t thread) {
    for (uint32_t i = 0; i < kRun && places[thread].is_valid; i++) values[thread][i] *= shape.signs[places[thread].column(shape) + i];
  });
  butterflies(block, shape, values);
  block.each([&](uint32_t thread) {
    for (uint32_t i = 0; i < kRun; i++) values[thread][i] *= shape.norm;
  });
}

// The way back, to the pages.
template <typename Block>
KVFERRY_DEVICE void inverse(Block& block, const Shape& shape, const Paged& kv, const Tile& tile, Places<Block>& places,
                            Floats<Block>& values) {
  if (shape.signs != nullptr) {
    butterflies(block, shape, values);
    block.each([&](uint32_t thread) {
      if (!places[thread].is_valid) return;
      const float* signs = shape.signs + places[thread].column(shape);
      for (uint32_t i = 0; i < kRun; i++) values[thread][i] = values[thread][i] * shape.norm * signs[i];
    });
  }
  if (shape.mean != nullptr) {
    block.each([&](uint32_t thread) {
      if (!places[thread].is_valid) return;
      const uint32_t column = places[thread].column(shape);
      for (uint32_t i = 0; i < kRun; i++) {
        values[thread][i] = __builtin_fmaf(values[thread][i], shape.unscale[column + i], shape.mean[column + i]);
      }
    });
  }
  if (shape.pairs != 0) turn(block, shape, tile, places, values, false);
  block.each([&](uint32_t thread) {
    const Place& place = places[thread];
    if (!place.is_valid) return;
    uint8_t* at = address_of(kv, shape, tile.token + tile.exempt + place.row, place.head, place.channel);
    store_run<true>(at, kv.planes[place.head / shape.heads].channel_stride, shape.element, values[thread]);
  });
}

}  // namespace kvferry::cuda
