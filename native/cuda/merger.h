// Merging tokens of paged KV on a device.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "codec.h"

namespace kvferry::cuda {

// Of each head the sets that its tokens are in, as transport/codec/merge.ts makes them: at least one member each.
struct MergeSets {
  std::vector<uint32_t> begins;   // of all heads' sets, and behind the last: places among the members
  std::vector<uint32_t> members;  // tokens
  std::vector<uint32_t> head_of;
  std::vector<float> attention;  // of each head, each token
  uint32_t tokens;
};

struct Merged {
  std::vector<float> keys, values;  // of each set, its channels
  std::vector<uint32_t> pivots;
};

// Keys and values are the first two parts of the pages. "" or why not.
std::string merge_tokens(Device& device, const DevicePages& pages, Element element, uint32_t heads, uint32_t channels, const MergeSets& sets,
                         double sigma, bool is_sum, Merged* merged);

}  // namespace kvferry::cuda
