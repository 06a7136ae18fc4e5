#include "listener.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "../core/clock.h"
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
    Stream stream(accept4(stream_.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (stream.fd() < 0) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (errno == EAGAIN) return;
      // No descriptors or memory: the socket stays ready, so look away for a while.
      poller_.change(*this, stream_.fd(), 0);
      poller_.set_deadline(*this, now_us() + kPauseUs);
      return;
    }
    if (!mover_.begin_greeting()) {
      mover_.refusals().add(Refusal::full, Address::of_peer(stream.fd()).endpoint(), "too many that have not said what they are");
      continue;
    }
    set_common_options(stream.fd());
    poller_.attach(std::make_shared<Greeting>(poller_, mover_, std::move(stream)));
  }
}

void Listener::on_deadline() { poller_.change(*this, stream_.fd(), EPOLLIN); }

}  // namespace kvferry
