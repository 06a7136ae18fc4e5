#include "socket.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace kvferry {
namespace {

constexpr int kBacklog = 512;
// Of the traffic class; TCP keeps them for itself.
constexpr int kEcnBits = 2;

void set_number(int fd, int level, int name, int value) { setsockopt(fd, level, name, &value, sizeof value); }

Address address_of(int fd, int (*ask)(int, sockaddr*, socklen_t*)) {
  Address address;
  address.bytes = sizeof address.storage;
  if (ask(fd, reinterpret_cast<sockaddr*>(&address.storage), &address.bytes) != 0) address.bytes = 0;
  return address;
}

// By the addresses of a socket that is connected or connecting.
bool on_one_host(int fd) { return Address::of_self(fd).endpoint().host == Address::of_peer(fd).endpoint().host; }

}  // namespace

bool Address::parse(const std::string& host, uint16_t port, Address* address) {
  addrinfo hints = {};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) return false;
  memcpy(&address->storage, found->ai_addr, found->ai_addrlen);
  address->bytes = found->ai_addrlen;
  freeaddrinfo(found);
  return true;
}

Address Address::of_peer(int fd) { return address_of(fd, getpeername); }
Address Address::of_self(int fd) { return address_of(fd, getsockname); }

Endpoint Address::endpoint() const {
  char text[INET6_ADDRSTRLEN] = "";
  if (storage.ss_family == AF_INET) {
    const auto* four = reinterpret_cast<const sockaddr_in*>(&storage);
    inet_ntop(AF_INET, &four->sin_addr, text, sizeof text);
    return {text, ntohs(four->sin_port)};
  }
  if (storage.ss_family != AF_INET6) return {};
  const auto* six = reinterpret_cast<const sockaddr_in6*>(&storage);
  if (IN6_IS_ADDR_V4MAPPED(&six->sin6_addr)) {
    inet_ntop(AF_INET, six->sin6_addr.s6_addr + 12, text, sizeof text);
  } else {
    inet_ntop(AF_INET6, &six->sin6_addr, text, sizeof text);
  }
  return {text, ntohs(six->sin6_port)};
}

int listen_on(const Address& address, Failure* failure) {
  const int fd = socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    *failure = {Code::address_unavailable, describe_error(errno)};
    return -1;
  }
  set_number(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  // "::" takes IPv4 as well.
  if (address.storage.ss_family == AF_INET6) set_number(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
  if (bind(fd, reinterpret_cast<const sockaddr*>(&address.storage), address.bytes) == 0 && listen(fd, kBacklog) == 0) return fd;
  *failure = {Code::address_unavailable, describe_error(errno)};
  close(fd);
  return -1;
}

int begin_connect(const Address& address, Failure* failure) {
  const int fd = socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    *failure = {Code::connect_failed, describe_error(errno)};
    return -1;
  }
  set_common_options(fd);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address.storage), address.bytes) == 0 || errno == EINPROGRESS) return fd;
  *failure = {Code::connect_failed, describe_error(errno)};
  close(fd);
  return -1;
}

int connect_result(int fd) {
  int error = 0;
  socklen_t bytes = sizeof error;
  return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &bytes) == 0 ? error : errno;
}

void set_common_options(int fd) { set_number(fd, IPPROTO_TCP, TCP_NODELAY, 1); }

void set_lane_options(int fd, const LaneOptions& options) {
  if (options.socket_buffer_bytes > 0) {
    set_number(fd, SOL_SOCKET, SO_SNDBUF, int(options.socket_buffer_bytes));
    set_number(fd, SOL_SOCKET, SO_RCVBUF, int(options.socket_buffer_bytes));
  }
  // An IPv6 socket takes both: it may carry IPv4. What the kernel refuses shows in lane_info.
  const int traffic_class = int(options.dscp << kEcnBits);
  set_number(fd, IPPROTO_IP, IP_TOS, traffic_class);
  set_number(fd, IPPROTO_IPV6, IPV6_TCLASS, traffic_class);
  // ~0 lifts a pace that was set before.
  const uint64_t pace = options.pace_bytes_per_second == 0 ? ~uint64_t(0) : options.pace_bytes_per_second;
  setsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &pace, sizeof pace);
  // 0 means the host's setting to the kernel too.
  set_number(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, int(options.not_sent_low_bytes));
  // Between two ends of one host there is no path to probe or to pace for, and what BBR does for it costs a fifth of the processor time.
  const std::string name = options.congestion_control.empty() && on_one_host(fd) ? "reno" : options.congestion_control;
  if (!name.empty()) setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name.data(), socklen_t(name.size()));
}

uint32_t dscp_of(int fd) {
  const sa_family_t family = Address::of_self(fd).storage.ss_family;
  const int traffic_class = family == AF_INET6 ? get_number(fd, IPPROTO_IPV6, IPV6_TCLASS) : get_number(fd, IPPROTO_IP, IP_TOS);
  return uint32_t(traffic_class) >> kEcnBits;
}

int get_number(int fd, int level, int name) {
  int value = 0;
  socklen_t bytes = sizeof value;
  return getsockopt(fd, level, name, &value, &bytes) == 0 ? value : 0;
}

std::string describe_error(int error) {
  char text[128] = "";
  // The GNU variant, which returns the text.
  return strerror_r(error, text, sizeof text);
}

}  // namespace kvferry
