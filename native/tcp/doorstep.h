// Those that were accepted and have not said what they are: so many at most. Where there is no room for one more, somebody of the source that has most of
// the room gives way, so that whoever fills it with strangers puts out his own; where no source has much, anybody. Greeter's thread only.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "socket.h"

namespace kvferry {

class Greeting;

class Doorstep {
 public:
  // An IPv4 address, or the part of an IPv6 address that a host does not choose by itself.
  using Source = std::array<uint8_t, 9>;
  static Source source_of(const Address& address);

  explicit Doorstep(size_t most) : most_(most) {}
  // Who has to leave before one more from there enters; nullptr: there is room.
  Greeting* who_gives_way(const Source& source) const;
  void enter(Greeting& greeting, const Source& source);
  void leave(Greeting& greeting);

 private:
  struct Entry {
    Greeting* greeting;
    Source source;
  };

  const size_t most_;
  std::vector<Entry> entries_;  // the oldest first
  std::map<Source, size_t> counts_;
};

}  // namespace kvferry
