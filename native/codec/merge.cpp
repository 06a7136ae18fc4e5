#include "merge.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "decay.h"

namespace kvferry::codec {
namespace {

template <typename Load>
bool load(const uint8_t* from, const MergeShape& shape, uint32_t tokens, float* to, Load&& value_of) {
  bool is_finite = true;
  for (uint32_t head = 0; head < shape.heads; head++) {
    for (uint32_t token = 0; token < tokens; token++) {
      const size_t first = head * shape.head_stride + token * shape.token_stride;
      for (uint32_t channel = 0; channel < shape.channels; channel++, to++) {
        *to = value_of(from, first + channel);
        is_finite = is_finite && (bits_of(*to) & kInfinity) != kInfinity;
      }
    }
  }
  return is_finite;
}

template <typename Word>
Word word_at(const uint8_t* from, size_t index) {
  Word word;
  memcpy(&word, from + index * sizeof word, sizeof word);
  return word;
}

// [heads, tokens, channels]; false: some are no numbers.
bool load_floats(const uint8_t* from, const MergeShape& shape, uint32_t tokens, std::vector<float>* to) {
  to->resize(size_t(shape.heads) * tokens * shape.channels);
  switch (shape.element) {
    case Element::bf16: return load(from, shape, tokens, to->data(), [](const uint8_t* at, size_t i) { return from_bf16(word_at<uint16_t>(at, i)); });
    case Element::f16: return load(from, shape, tokens, to->data(), [](const uint8_t* at, size_t i) { return from_f16(word_at<uint16_t>(at, i)); });
    case Element::f32: return load(from, shape, tokens, to->data(), [](const uint8_t* at, size_t i) { return word_at<float>(at, i); });
  }
  return false;
}

// What is finite stays so.
void store(double value, Element element, uint8_t* to) {
  constexpr double kMost = std::numeric_limits<float>::max();
  const float near = float(std::min(std::max(value, -kMost), kMost));
  if (element == Element::f32) return void(memcpy(to, &near, sizeof near));
  const uint16_t word = element == Element::bf16 ? limited<true>(to_bf16(near), uint16_t(0x7F80)) : limited<true>(to_f16(near), uint16_t(0x7C00));
  memcpy(to, &word, sizeof word);
}

double share_of(double share, uint32_t tokens) { return std::round(share * tokens); }

void rank_by_norm(const float* keys, size_t rows, uint32_t channels, float* ranks) {
  for (size_t row = 0; row < rows; row++, keys += channels) {
    double squares = 0;
    for (uint32_t channel = 0; channel < channels; channel++) squares += double(keys[channel]) * keys[channel];
    ranks[row] = float(-squares);
  }
}

// Heads whose tokens merge together, or one.
struct Group {
  const float* keys;  // [heads, tokens, channels]
  uint32_t heads, channels;
  const float* ranks;  // [tokens]
};

void keep_tokens(const MergeRules& rules, const MergeSpan& span, const Group& group, MergeSpace* space) {
  const uint32_t tokens = span.tokens;
  uint8_t* marks = space->marks.data();
  std::fill(marks, marks + tokens, uint8_t(kFirst));
  const uint32_t sinks = span.position < rules.sinks ? std::min(rules.sinks - span.position, tokens) : 0;
  std::fill(marks, marks + sinks, uint8_t(kKept));
  const double behind = double(span.end) - span.position - tokens;
  const double recent = std::min(std::max(share_of(rules.recent, span.end) - behind, 0.0), double(tokens));
  std::fill(marks + tokens - uint32_t(recent), marks + tokens, uint8_t(kKept));
  std::vector<uint32_t>& ranked = space->free;
  ranked.clear();
  for (uint32_t token = 0; token < tokens; token++) {
    if (marks[token] != kKept) ranked.push_back(token);
  }
  const size_t heavy = std::min(size_t(share_of(rules.heavy, tokens)), ranked.size());
  const float* ranks = group.ranks;
  std::partial_sort(ranked.begin(), ranked.begin() + ptrdiff_t(heavy), ranked.end(), [ranks](uint32_t one, uint32_t other) {
    return ranks[one] != ranks[other] ? ranks[one] > ranks[other] : one < other;
  });
  for (size_t at = 0; at < heavy; at++) marks[ranked[at]] = kKept;
}

double cosine_of(const Group& group, uint32_t tokens, uint32_t one, uint32_t other) {
  double product = 0, first = 0, second = 0;
  for (uint32_t head = 0; head < group.heads; head++) {
    const float* a = group.keys + (size_t(head) * tokens + one) * group.channels;
    const float* b = group.keys + (size_t(head) * tokens + other) * group.channels;
    for (uint32_t channel = 0; channel < group.channels; channel++) {
      product += double(a[channel]) * b[channel];
      first += double(a[channel]) * a[channel];
      second += double(b[channel]) * b[channel];
    }
  }
  return first == 0 || second == 0 ? 0 : product / std::sqrt(first * second);
}

// One mark for each token. With a budget exactly that many tokens are left, unless the rules leave no more to merge: the most alike neighbours join first, the
// earlier of equals, which is the threshold that leaves the budget, found without a search. Kept tokens are skipped: those before and behind them are neighbours.
void plan(const MergeRules& rules, const MergeSpan& span, const Group& group, MergeSpace* space) {
  keep_tokens(rules, span, group, space);
  std::vector<uint32_t>&free = space->free, &order = space->order, &first = space->first, &sizes = space->sizes;
  std::vector<double>& alike = space->alike;
  free.clear();
  for (uint32_t token = 0; token < span.tokens; token++) {
    if (space->marks[token] != kKept) free.push_back(token);
  }
  alike.clear();
  for (size_t at = 1; at < free.size(); at++) alike.push_back(cosine_of(group, span.tokens, free[at - 1], free[at]));
  order.resize(alike.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&alike](uint32_t one, uint32_t other) {
    return alike[one] != alike[other] ? alike[one] > alike[other] : one < other;
  });
  const double left = share_of(rules.budget, span.tokens);
  double wanted = rules.has_budget ? span.tokens - left : double(free.size());
  // Of the last free token of a run, the first of it; of each first one, the run's length.
  first.resize(free.size());
  std::iota(first.begin(), first.end(), 0);
  sizes.assign(free.size(), 1);
  for (const uint32_t at : order) {
    if (wanted <= 0 || (!rules.has_budget && !(alike[at] > rules.cosine))) break;
    const uint32_t before = first[at], behind = at + 1, size = sizes[before] + sizes[behind];
    if (size > rules.members) continue;
    first[behind + sizes[behind] - 1] = before;
    sizes[before] = size;
    space->marks[free[behind]] = kJoined;
    wanted--;
  }
}

// Members of all sets, set after set, ascending.
void list_members(MergeSpace* space) {
  const MergeSets& sets = space->sets;
  space->begins.assign(sets.count() + 1, 0);
  for (uint32_t set = 0; set < sets.count(); set++) space->begins[set + 1] = space->begins[set] + sets.sizes[set];
  space->order.assign(space->begins.begin(), space->begins.end() - 1);
  space->members.resize(sets.set_of.size());
  for (uint32_t token = 0; token < sets.set_of.size(); token++) space->members[space->order[sets.set_of[token]]++] = token;
}

// Of each set the member that ranks highest, the first of equals.
void find_pivots(const float* ranks, MergeSpace* space) {
  MergeSets& sets = space->sets;
  sets.pivots.resize(sets.count());
  for (uint32_t set = 0; set < sets.count(); set++) {
    uint32_t best = space->members[space->begins[set]];
    for (uint32_t at = space->begins[set] + 1; at < space->begins[set + 1]; at++) {
      if (ranks[space->members[at]] > ranks[best]) best = space->members[at];
    }
    sets.pivots[set] = best;
  }
}

// Of a set's members; they sum up to 1.
void weigh(double sigma, const float* keys, uint32_t channels, const uint32_t* members, uint32_t size, uint32_t pivot, std::vector<double>* weights) {
  weights->resize(size);
  double all = 0;
  for (uint32_t at = 0; at < size; at++) {
    double sum = 0;
    for (uint32_t channel = 0; channel < channels; channel++) {
      const double apart = double(keys[size_t(members[at]) * channels + channel]) - keys[size_t(pivot) * channels + channel];
      sum = sum + apart * apart;
    }
    (*weights)[at] = sum;
    all += sum;
  }
  // The pivot is no distance from itself; members that all have its key weigh as much as it does.
  const double adaptive = all == 0 ? 1 : 2 * all / (size - 1);
  const double twice_variance = sigma == 0 ? adaptive : 2 * sigma * sigma;
  double total = 0;
  for (double& weight : *weights) {
    weight = decay_of(weight / twice_variance);
    total += weight;
  }
  for (double& weight : *weights) weight /= total;
}

// Rows of one head, at `to_keys` and `to_values`.
void merge_rows(const MergeRules& rules, const MergeShape& shape, uint32_t tokens, uint32_t head, const uint8_t* const from[2], uint8_t* const to[2],
                MergeSpace* space) {
  const MergeSets& sets = space->sets;
  const size_t bytes = element_bytes(shape.element), row_bytes = shape.channels * bytes;
  const size_t plane = size_t(head) * tokens * shape.channels;
  const float* const floats[2] = {space->keys.data() + plane, space->values.data() + plane};
  for (uint32_t set = 0; set < sets.count(); set++) {
    const uint32_t* members = space->members.data() + space->begins[set];
    const uint32_t size = sets.sizes[set];
    if (size > 1) weigh(rules.sigma, floats[0], shape.channels, members, size, sets.pivots[set], &space->weights);
    for (int side = 0; side < 2; side++) {
      uint8_t* row = to[side] + set * row_bytes;
      // As it is, minus zeros too.
      if (size == 1) {
        memcpy(row, from[side] + (head * shape.head_stride + members[0] * shape.token_stride) * bytes, row_bytes);
        continue;
      }
      const double scale = side == 1 && rules.is_sum ? size : 1;
      for (uint32_t channel = 0; channel < shape.channels; channel++) {
        double sum = 0;
        for (uint32_t at = 0; at < size; at++) sum = sum + space->weights[at] * floats[side][size_t(members[at]) * shape.channels + channel];
        store(scale * sum, shape.element, row + channel * bytes);
      }
    }
  }
}

// Ranks of all heads as one, in the place of the first.
void sum_ranks(uint32_t heads, uint32_t tokens, std::vector<float>* ranks) {
  for (uint32_t token = 0; token < tokens; token++) {
    double sum = 0;
    for (uint32_t head = 0; head < heads; head++) sum += (*ranks)[size_t(head) * tokens + token];
    (*ranks)[token] = float(sum);
  }
}

}  // namespace

bool merge_layer(const MergeRules& rules, const MergeShape& shape, const MergeSpan& span, const uint8_t* keys, const uint8_t* values,
                 const float* attention, bool is_skipped, MergedLayer* merged, MergeSpace* space) {
  const uint32_t tokens = span.tokens;
  if (!load_floats(keys, shape, tokens, &space->keys) || !load_floats(values, shape, tokens, &space->values)) return false;
  const size_t all = size_t(shape.heads) * tokens, row_bytes = shape.channels * element_bytes(shape.element);
  space->ranks.resize(all);
  if (attention == nullptr) rank_by_norm(space->keys.data(), all, shape.channels, space->ranks.data());
  else std::copy(attention, attention + all, space->ranks.begin());
  if (rules.by_layer) sum_ranks(shape.heads, tokens, &space->ranks);
  merged->map.resize(shape.heads * map_bytes(tokens));
  merged->counts.resize(shape.heads);
  merged->keys.resize(all * row_bytes);
  merged->values.resize(all * row_bytes);
  space->marks.assign(tokens, kKept);
  for (uint32_t head = 0; head < shape.heads; head++) {
    const float* ranks = space->ranks.data() + (rules.by_layer ? 0 : size_t(head) * tokens);
    if (!is_skipped && (head == 0 || !rules.by_layer)) {
      const uint32_t together = rules.by_layer ? shape.heads : 1;
      plan(rules, span, {space->keys.data() + size_t(head) * tokens * shape.channels, together, shape.channels, ranks}, space);
    }
    sets_of(space->marks.data(), tokens, &space->sets);
    list_members(space);
    find_pivots(ranks, space);
    write_map(space->marks.data(), tokens, space->sets.pivots, merged->map.data() + head * map_bytes(tokens));
    merged->counts[head] = space->sets.count();
    const uint8_t* const from[2] = {keys, values};
    uint8_t* const to[2] = {merged->keys.data() + head * tokens * row_bytes, merged->values.data() + head * tokens * row_bytes};
    merge_rows(rules, shape, tokens, head, from, to, space);
  }
  return true;
}

}  // namespace kvferry::codec
