// Merging given sets of tokens (native/codec/merge.h): a warp for each set, in doubles and in the order of tokens and channels, so that it is the same as there.
#pragma once
#include "../codec/decay.h"
#include "rows.h"

namespace kvferry::cuda {

// Sets of all heads, one after the other; keys are part 0, values part 1.
struct MergeArguments {
  Shape shape;
  Paged kv;
  const uint32_t* begins;   // of each set, and behind the last: its place among the members
  const uint32_t* members;  // tokens
  const uint32_t* head_of;  // of each set
  const float* attention;   // of each head, each token
  uint32_t tokens;
  double sigma;
  bool is_sum;      // values are scaled by the size of their set
  double* weights;  // of each member
  float* keys;      // of each set, its channels
  float* values;
  uint32_t* pivots;
};

KVFERRY_DEVICE double member_at(const MergeArguments& a, uint32_t part, uint32_t head, uint32_t token, uint32_t channel) {
  return double(float_at(address_of(a.kv, a.shape, token, part * a.shape.heads + head, channel), a.shape.element));
}

// The first of those with the most attention.
KVFERRY_DEVICE uint32_t pivot_of(const MergeArguments& a, uint32_t head, uint32_t begin, uint32_t end) {
  uint32_t pivot = a.members[begin];
  for (uint32_t at = begin + 1; at < end; at++) {
    const float* attention = a.attention + size_t(head) * a.tokens;
    if (attention[a.members[at]] > attention[pivot]) pivot = a.members[at];
  }
  return pivot;
}

template <typename Block>
KVFERRY_DEVICE void merge(Block& block, const MergeArguments& a) {
  const uint32_t set = block.x(), begin = a.begins[set], end = a.begins[set + 1], head = a.head_of[set];
  const uint32_t pivot = pivot_of(a, head, begin, end);
  block.phase([&](uint32_t thread) {
    if (thread == 0) a.pivots[set] = pivot;
    for (uint32_t at = begin + thread; at < end; at += Block::threads) {
      double squares = 0;
      for (uint32_t channel = 0; channel < a.shape.channels; channel++) {
        const double apart = member_at(a, 0, head, a.members[at], channel) - member_at(a, 0, head, pivot, channel);
        squares = squares + apart * apart;
      }
      a.weights[at] = codec::decay_of(squares / (2 * a.sigma * a.sigma));
    }
  });
  block.phase([&](uint32_t thread) {
    if (thread != 0) return;
    double sum = 0;
    for (uint32_t at = begin; at < end; at++) sum += a.weights[at];
    for (uint32_t at = begin; at < end; at++) a.weights[at] /= sum;
  });
  block.each([&](uint32_t thread) {
    for (uint32_t index = thread; index < 2 * a.shape.channels; index += Block::threads) {
      const uint32_t part = index / a.shape.channels, channel = index % a.shape.channels;
      float* to = (part == 0 ? a.keys : a.values) + size_t(set) * a.shape.channels + channel;
      // As it is, minus zeros too.
      if (end - begin == 1) {
        *to = float(member_at(a, part, head, pivot, channel));
        continue;
      }
      double sum = 0;
      for (uint32_t at = begin; at < end; at++) sum = sum + a.weights[at] * member_at(a, part, head, a.members[at], channel);
      *to = float((part == 1 && a.is_sum ? double(end - begin) : 1.0) * sum);
    }
  });
}

}  // namespace kvferry::cuda
