#include "listener.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "../core/clock.h"
#include "doorstep.h"
#include "greeting.h"
#include "mover.h"
#include "poller.h"
#include "socket.h"

namespace kvferry {
namespace {

constexpr int kAcceptsPerTurn = 64;
constexpr uint64_t kPauseUs = 100'000;

}  // namespace

Listener::Listener(Poller& poller, TcpMover& mover, Stream stream) : Channel(poller, std::move(stream)), mover_(mover) {}

void Listener::on_attached() { poller_.watch(*this, stream_.fd(), EPOLLIN); }

void Listener::on_ready(uint32_t) {
  for (int turn = 0; turn < kAcceptsPerTurn; turn++) {
    Address address;
    address.bytes = sizeof address.storage;
    Stream stream(accept4(stream_.fd(), reinterpret_cast<sockaddr*>(&address.storage), &address.bytes, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (stream.fd() < 0) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (errno == EAGAIN) return;
      // No descriptors or memory: the socket stays ready, so look away for a while.
      poller_.change(*this, stream_.fd(), 0);
      poller_.set_deadline(*this, now_us() + kPauseUs);
      return;
    }
    const Doorstep::Source source = Doorstep::source_of(address);
    if (Greeting* other = mover_.doorstep().who_gives_way(source)) other->give_way();
    set_common_options(stream.fd());
    auto greeting = std::make_shared<Greeting>(poller_, mover_, std::move(stream));
    mover_.doorstep().enter(*greeting, source);
    poller_.attach(std::move(greeting));
  }
}

void Listener::on_deadline() { poller_.change(*this, stream_.fd(), EPOLLIN); }

}  // namespace kvferry
