#include "board.h"

namespace kvferry {

FakeBoard& FakeBoard::instance() {
  // Never destroyed: a worker's clean-up may come after static destructors.
  static FakeBoard* const board = new FakeBoard;
  return *board;
}

std::string FakeBoard::key(const Endpoint& endpoint) {
  return endpoint.host.starts_with("fake:") ? endpoint.host : std::to_string(endpoint.port);
}

uint16_t FakeBoard::free_port(const std::string& host) {
  for (uint32_t tries = 0; tries < 0xffff; tries++) {
    const uint16_t port = next_port++;
    if (port != 0 && !listeners.contains(key({host, port}))) return port;
  }
  return 0;
}

}  // namespace kvferry
