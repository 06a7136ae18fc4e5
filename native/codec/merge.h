// Token merging (KVMerger, Wang et al. 2024): neighbours whose keys are alike become one token, so that a receiver holds and attends to fewer. Each KV head of a
// layer by itself, keys after RoPE; in doubles, and in the order of tokens and channels, so that every machine gives the same. The reference is test/quality/merge.py.
//
// Merged KV is other content than what it was made of: it has fewer tokens, of other weight, and nothing that was computed for the one may be served as the other.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "merge_map.h"
#include "values.h"

namespace kvferry::codec {

struct MergeRules {
  // Of the tokens, the share that is left; without one, neighbours merge where their cosine is above `cosine`.
  bool has_budget = true;
  double budget = 1, cosine = 1;
  uint32_t sinks = 0;           // tokens at the beginning of the sequence that stay as they are
  double recent = 0;            // of the sequence's tokens, the last ones that stay so
  double heavy = 0;             // of the tokens that merge at once, those that stay so because they rank highest
  uint32_t members = 1;         // of a set at most; 1: nothing merges
  // Members weigh exp(-d^2 / (2 sigma^2)) with d their key's distance from the pivot's; infinity: all the same; 0: the root mean square of a set's d.
  double sigma = 1;
  bool is_sum = false;          // values are scaled by the size of their set
  bool by_layer = false;        // all heads of a layer have the same sets
};

// What merges at once, and where it stands in its sequence; end >= position + tokens.
struct MergeSpan {
  uint32_t tokens, position, end;
};

// A layer's keys, and its values: strides in elements.
struct MergeShape {
  Element element;
  uint32_t heads, channels;
  size_t head_stride, token_stride;
};

struct MergedLayer {
  std::vector<uint8_t> map;           // [heads, map_bytes]
  std::vector<uint32_t> counts;       // of each head: rows
  std::vector<uint8_t> keys, values;  // elements [heads, tokens, channels]; of each head the first rows are used
};

// Memory for one call at a time.
struct MergeSpace {
  std::vector<float> keys, values;  // [heads, tokens, channels]
  std::vector<float> ranks;         // [heads, tokens]
  std::vector<double> alike, weights;
  std::vector<uint32_t> free, order, first, sizes, members, begins;
  std::vector<uint8_t> marks;
  MergeSets sets;
};

// `attention`: [heads, tokens], what ranks tokens, the highest of a set is its pivot, the first of equals; nullptr: a key that is short gets much attention (Devoto
// et al. 2024). False: some value is no number, and nothing is merged.
bool merge_layer(const MergeRules& rules, const MergeShape& shape, const MergeSpan& span, const uint8_t* keys, const uint8_t* values,
                 const float* attention, bool is_skipped, MergedLayer* merged, MergeSpace* space);

}  // namespace kvferry::codec
