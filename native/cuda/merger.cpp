#include "merger.h"

namespace kvferry::cuda {

std::string merge_tokens(Device& device, const DevicePages& pages, Element element, uint32_t heads, uint32_t channels, const MergeSets& sets,
                         double sigma, bool is_sum, Merged* merged) {
  const size_t count = sets.head_of.size();
  merged->keys.resize(count * channels);
  merged->values.resize(count * channels);
  merged->pivots.resize(count);
  if (count == 0) return device.wait();
  std::vector<DeviceMemory> memory;
  const auto room_for = [&](const auto& list) { return memory.emplace_back(device, list.size() * sizeof(list[0])).data(); };
  const auto keep = [&](const auto& list) {
    uint8_t* to = room_for(list);
    if (to != nullptr) device.upload(to, list.data(), list.size() * sizeof(list[0]));
    return to;
  };
  MergeArguments merge = {};
  merge.shape.element = element, merge.shape.parts = 2, merge.shape.heads = heads, merge.shape.channels = channels;
  merge.kv = pages.paged();
  merge.begins = reinterpret_cast<const uint32_t*>(keep(sets.begins));
  merge.members = reinterpret_cast<const uint32_t*>(keep(sets.members));
  merge.head_of = reinterpret_cast<const uint32_t*>(keep(sets.head_of));
  merge.attention = reinterpret_cast<const float*>(keep(sets.attention));
  merge.tokens = sets.tokens, merge.sigma = sigma, merge.is_sum = is_sum;
  merge.weights = reinterpret_cast<double*>(room_for(std::vector<double>(sets.members.size())));
  merge.keys = reinterpret_cast<float*>(room_for(merged->keys));
  merge.values = reinterpret_cast<float*>(room_for(merged->values));
  merge.pivots = reinterpret_cast<uint32_t*>(room_for(merged->pivots));
  for (const DeviceMemory& one : memory) {
    if (one.data() == nullptr) return "the device has too little memory";
  }
  device.launch(Kernel::merge, {uint32_t(count), 1, 0}, &merge);
  device.download(merged->keys.data(), reinterpret_cast<uint8_t*>(merge.keys), merged->keys.size() * sizeof(float));
  device.download(merged->values.data(), reinterpret_cast<uint8_t*>(merge.values), merged->values.size() * sizeof(float));
  device.download(merged->pivots.data(), reinterpret_cast<uint8_t*>(merge.pivots), merged->pivots.size() * sizeof(uint32_t));
  return device.wait();
}

}  // namespace kvferry::cuda
