#include "doorstep.h"

#include <netinet/in.h>

#include <algorithm>
#include <cstring>

#include "greeting.h"

namespace kvferry {
namespace {

constexpr size_t kPrefixBytes = 8;
// A source with less than this part of the room takes no more than its due: a peer comes with all its lanes at once.
constexpr size_t kFairParts = 8;
// The newest of this part have not had time to say anything: they would put each other out, and whoever was quick to say a little would stay.
constexpr size_t kNewestParts = 4;

}  // namespace

Doorstep::Source Doorstep::source_of(const Address& address) {
  Source source = {};
  const auto* four = reinterpret_cast<const sockaddr_in*>(&address.storage);
  const auto* six = reinterpret_cast<const sockaddr_in6*>(&address.storage);
  if (address.storage.ss_family == AF_INET) {
    source[0] = 4;
    memcpy(source.data() + 1, &four->sin_addr, 4);
  } else if (IN6_IS_ADDR_V4MAPPED(&six->sin6_addr)) {
    source[0] = 4;
    memcpy(source.data() + 1, six->sin6_addr.s6_addr + 12, 4);
  } else {
    source[0] = 6;
    memcpy(source.data() + 1, six->sin6_addr.s6_addr, kPrefixBytes);
  }
  return source;
}

Greeting* Doorstep::who_gives_way(const Source& source) const {
  if (entries_.size() < most_) return nullptr;
  // As if it had entered.
  const auto share = [&](const Source& of) {
    const auto found = counts_.find(of);
    return (found == counts_.end() ? 0 : found->second) + (of == source ? 1 : 0);
  };
  size_t largest = share(source);
  for (const auto& [of, count] : counts_) largest = std::max(largest, share(of));
  const bool is_fair = largest <= most_ / kFairParts;
  std::vector<Greeting*> candidates;
  for (const Entry& entry : entries_) {
    if (is_fair || share(entry.source) == largest) candidates.push_back(entry.greeting);
  }
  candidates.resize(candidates.size() - candidates.size() / kNewestParts);
  const auto least = std::min_element(candidates.begin(), candidates.end(), [](Greeting* a, Greeting* b) { return a->progress() < b->progress(); });
  return least == candidates.end() ? nullptr : *least;
}

void Doorstep::enter(Greeting& greeting, const Source& source) {
  entries_.push_back({&greeting, source});
  counts_[source] += 1;
}

void Doorstep::leave(Greeting& greeting) {
  const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) { return entry.greeting == &greeting; });
  if (found == entries_.end()) return;
  const auto count = counts_.find(found->source);
  if (--count->second == 0) counts_.erase(count);
  entries_.erase(found);
}

}  // namespace kvferry
