// The names of in-process listeners, and the lock under which two movers of one process are joined or parted.
#pragma once
#include <map>
#include <mutex>
#include <string>

#include "../core/mover.h"

namespace kvferry {

class FakeMover;

struct FakeBoard {
  std::mutex mutex;
  std::map<std::string, FakeMover*> listeners;
  uint16_t next_port = 1;

  static FakeBoard& instance();
  // "fake:NAME" names a listener by itself; anything else by its port.
  static std::string key(const Endpoint& endpoint);
  // A free port; 0 = none.
  uint16_t free_port(const std::string& host);
};

}  // namespace kvferry
