#include "refusals.h"

#include <utility>

namespace kvferry {

void Refusals::add(Refusal reason, const Endpoint& remote, const std::string& detail) {
  counts_[size_t(reason)].fetch_add(1, std::memory_order_relaxed);
  // While JavaScript has not heard of the last few, another one is only counted.
  if (!events_.reserve_now(Quota::refusal)) return;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    told_.push_back({reason, remote, detail});
  }
  Event event;
  event.kind = EventKind::refused;
  events_.emit_lazily(Quota::refusal, event);
}

Refused Refusals::next() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (told_.empty()) return {};
  Refused first = std::move(told_.front());
  told_.pop_front();
  return first;
}

std::array<uint64_t, kRefusals> Refusals::counts() const {
  std::array<uint64_t, kRefusals> counts;
  for (size_t reason = 0; reason < kRefusals; reason++) counts[reason] = counts_[reason].load(std::memory_order_relaxed);
  return counts;
}

}  // namespace kvferry
