#include "listener.h"

#include <sys/epoll.h>
#include <sys/socket.h>

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

void refuse_version(Stream& stream) {
  uint8_t framed[kMessageHeadBytes + sizeof kRefusal];
  encode_message_head(sizeof kRefusal, crc32c(0, kRefusal, sizeof kRefusal), framed);
  std::copy(std::begin(kRefusal), std::end(kRefusal), framed + kMessageHeadBytes);
  // A fresh socket has room; if not, the peer learns it from the close.
  [[maybe_unused]] const ssize_t sent = stream.send(framed, sizeof framed);
  shutdown(stream.fd(), SHUT_WR);
}

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
    if (!mover_.begin_greeting()) continue;
    set_common_options(stream.fd());
    poller_.attach(std::make_shared<Greeting>(poller_, mover_, std::move(stream)));
  }
}

void Listener::on_deadline() { poller_.change(*this, stream_.fd(), EPOLLIN); }

Greeting::Greeting(Poller& poller, TcpMover& mover, Stream stream) : Channel(poller, std::move(stream)), mover_(mover) {}

void Greeting::on_attached() {
  if (!poller_.watch(*this, stream_.fd(), EPOLLIN)) return close();
  poller_.set_deadline(*this, now_us() + uint64_t(mover_.bounds.preamble_timeout_ms) * 1000);
}

void Greeting::on_ready(uint32_t) {
  const ssize_t count = stream_.receive(bytes_.data() + have_, bytes_.size() - have_);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count <= 0) return close();
  have_ += size_t(count);
  if (have_ == bytes_.size()) admit();
}

void Greeting::on_deadline() { close(); }

void Greeting::admit() {
  Preamble preamble;
  if (!decode_preamble(bytes_.data(), &preamble)) return close();
  if (preamble.version != kWireVersion) {
    if (preamble.kind == PreambleKind::control) refuse_version(stream_);
    return close();
  }
  // From here on the socket is another channel's, with another poller perhaps.
  poller_.unwatch(stream_.fd());
  if (preamble.kind == PreambleKind::control) mover_.adopt_control(std::move(stream_));
  else mover_.adopt_lane(std::move(stream_), preamble);
  close();
}

void Greeting::close() {
  if (stream_.fd() >= 0) poller_.unwatch(stream_.fd());
  stream_.close();
  mover_.end_greeting();
  poller_.retire(*this);
}

}  // namespace kvferry
