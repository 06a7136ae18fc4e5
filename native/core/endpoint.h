#pragma once
#include <cstdint>
#include <string>

namespace kvferry {

struct Endpoint {
  std::string host;
  uint16_t port = 0;
};

}  // namespace kvferry
