#include "listener.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "../core/clock.h"
#include "../core/crc32c.h"
#include "mover.h"
#include "poller.h"
#include "socket.h"

namespace kvferry {
namespace {

constexpr int kAcceptsPerTurn = 64;
constexpr uint64_t kPauseUs = 100'000;

// A Refuse of schemas/peer.proto: code version_unsupported, version 1, min_version 1, framed as a control message. It is the one message
// that native code says by itself, to a peer that it could not understand.
constexpr uint8_t kRefusal[] = {0x12, 0x06, 0x08, 0x1f, 0x18, kWireVersion, 0x20, kWireVersion};

void refuse_version(int fd) {
  uint8_t framed[kMessageHeadBytes + sizeof kRefusal];
  encode_message_head(sizeof kRefusal, crc32c(0, kRefusal, sizeof kRefusal), framed);
  std::copy(std::begin(kRefusal), std::end(kRefusal), framed + kMessageHeadBytes);
  // A fresh socket has room; if not, the peer learns it from the close.
  [[maybe_unused]] const ssize_t sent = send(fd, framed, sizeof framed, MSG_NOSIGNAL);
  shutdown(fd, SHUT_WR);
}

}  // namespace

Listener::Listener(Poller& poller, TcpMover& mover, int fd) : Channel(poller), mover_(mover) { fd_ = fd; }

void Listener::on_attached() { poller_.watch(*this, fd_, EPOLLIN); }

void Listener::on_ready(uint32_t) {
  for (int turn = 0; turn < kAcceptsPerTurn; turn++) {
    const int fd = accept4(fd_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (errno == EAGAIN) return;
      // No descriptors or memory: the socket stays ready, so look away for a while.
      poller_.change(*this, fd_, 0);
      poller_.set_deadline(*this, now_us() + kPauseUs);
      return;
    }
    if (!mover_.begin_greeting()) {
      ::close(fd);
      continue;
    }
    set_common_options(fd);
    poller_.attach(std::make_shared<Greeting>(poller_, mover_, fd));
  }
}

void Listener::on_deadline() { poller_.change(*this, fd_, EPOLLIN); }

Greeting::Greeting(Poller& poller, TcpMover& mover, int fd) : Channel(poller), mover_(mover) { fd_ = fd; }

void Greeting::on_attached() {
  if (!poller_.watch(*this, fd_, EPOLLIN)) return close();
  poller_.set_deadline(*this, now_us() + uint64_t(mover_.bounds.preamble_timeout_ms) * 1000);
}

void Greeting::on_ready(uint32_t) {
  // Nothing but its end is watched.
  if (held_) return close();
  const ssize_t count = recv(fd_, bytes_.data() + have_, bytes_.size() - have_, 0);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count <= 0) return close();
  have_ += size_t(count);
  if (have_ == bytes_.size()) admit();
}

void Greeting::on_requests(uint32_t) {
  if (held_) admit();
}

void Greeting::on_deadline() { close(); }

void Greeting::admit() {
  Preamble preamble;
  if (!decode_preamble(bytes_.data(), &preamble)) return close();
  if (preamble.version != kWireVersion) {
    if (preamble.kind == PreambleKind::control) refuse_version(fd_);
    return close();
  }
  held_ = preamble.kind == PreambleKind::lane && mover_.hold_lane(*this, preamble);
  // What a lane says meanwhile stays in the socket.
  if (held_) return poller_.change(*this, fd_, EPOLLRDHUP);
  // From here on the socket is another channel's, with another poller perhaps.
  poller_.unwatch(fd_);
  const int fd = std::exchange(fd_, -1);
  const bool wanted = preamble.kind == PreambleKind::control ? mover_.adopt_control(fd) : mover_.adopt_lane(fd, preamble);
  if (!wanted) ::close(fd);
  close();
}

void Greeting::close() {
  if (fd_ >= 0) {
    poller_.unwatch(fd_);
    ::close(std::exchange(fd_, -1));
  }
  if (held_) mover_.let_go_of_lane(*this);
  mover_.end_greeting();
  poller_.retire(*this);
}

}  // namespace kvferry
