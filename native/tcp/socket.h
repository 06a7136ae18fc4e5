// Addresses and socket options. Numeric addresses only: names are looked up in TypeScript.
#pragma once
#include <sys/socket.h>

#include <cstdint>
#include <string>

#include "../core/codes.h"
#include "../core/mover.h"

namespace kvferry {

struct Address {
  sockaddr_storage storage = {};
  socklen_t bytes = 0;
  // False: not a numeric IPv4 or IPv6 address (a scope such as fe80::1%eth0 is fine).
  static bool parse(const std::string& host, uint16_t port, Address* address);
  static Address of_peer(int fd);
  static Address of_self(int fd);
  // An IPv4 address that came in over a dual-stack socket is shown as IPv4.
  Endpoint endpoint() const;
};

// A non-blocking socket that listens; -1 and why.
int listen_on(const Address& address, Failure* failure);
// A non-blocking socket that connects; -1 and why. `family` of the address.
int begin_connect(const Address& address, Failure* failure);
// The result of a connect that has become writable: 0 or an errno.
int connect_result(int fd);
void set_common_options(int fd);
void set_lane_options(int fd, const LaneOptions& options);
uint32_t dscp_of(int fd);
// A socket option; 0 where the kernel does not say.
int get_number(int fd, int level, int name);
// "Connection refused" for ECONNREFUSED; thread-safe.
std::string describe_error(int error);

}  // namespace kvferry
