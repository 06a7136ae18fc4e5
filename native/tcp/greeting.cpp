#include "greeting.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "../core/clock.h"
#include "../core/crc32c.h"
#include "mover.h"
#include "poller.h"
#include "socket.h"

namespace kvferry {
namespace {

constexpr uint8_t kHandshakeRecord = 22;
constexpr uint8_t kPreambleByte = 0x4b;
constexpr uint64_t kLeaveUs = 1'000'000;
constexpr size_t kDetailBytes = 100;

// A Refuse of schemas/peer.proto with `code`, `detail`, version and min_version, framed as a control message. It is the one message that native
// code says by itself, to a peer that it could not understand.
std::vector<uint8_t> refusal(Code code, const std::string& detail) {
  std::vector<uint8_t> refuse = {0x08, uint8_t(code)};
  if (!detail.empty()) {
    const size_t bytes = std::min(detail.size(), kDetailBytes);
    refuse.insert(refuse.end(), {0x12, uint8_t(bytes)});
    refuse.insert(refuse.end(), detail.begin(), detail.begin() + long(bytes));
  }
  refuse.insert(refuse.end(), {0x18, kWireVersion, 0x20, kWireVersion});
  refuse.insert(refuse.begin(), {0x12, uint8_t(refuse.size())});
  std::vector<uint8_t> framed(kMessageHeadBytes);
  encode_message_head(uint32_t(refuse.size()), crc32c(0, refuse.data(), refuse.size()), framed.data());
  framed.insert(framed.end(), refuse.begin(), refuse.end());
  return framed;
}

}  // namespace

Greeting::Greeting(Poller& poller, TcpMover& mover, Stream stream) : Channel(poller, std::move(stream)), mover_(mover), context_(mover.tls()) {}

void Greeting::on_attached() {
  if (!poller_.watch(*this, stream_.fd(), EPOLLIN)) return close();
  poller_.set_deadline(*this, now_us() + uint64_t(mover_.bounds.preamble_timeout_ms) * 1000);
}

void Greeting::on_ready(uint32_t) {
  if (state_ == State::silent) return sniff();
  if (state_ == State::securing) return secure();
  if (state_ == State::greeting) return read_preamble();
  // Nothing but its end is watched.
  if (state_ == State::held) return close();
  // Until it has left, so that unread bytes of its do not make the kernel take back what we said.
  const ssize_t count = recv(stream_.fd(), poller_.sink(), Poller::kSinkBytes, 0);
  if (count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR)) close();
}

void Greeting::on_requests(uint32_t) {
  if (state_ == State::held) admit();
}

void Greeting::on_deadline() {
  if (state_ == State::leaving || state_ == State::held) return close();
  refuse(Refusal::timeout, state_ == State::securing ? "the handshake took too long" : "no preamble in time");
}

void Greeting::give_way() {
  if (state_ == State::leaving) return close();
  refuse(Refusal::full, "its place was needed: too many have not said what they are");
}

void Greeting::sniff() {
  uint8_t first = 0;
  const ssize_t count = recv(stream_.fd(), &first, 1, MSG_PEEK);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  // Who only looks whether somebody listens is no stranger to tell of.
  if (count <= 0) return close();
  if (first != kHandshakeRecord && first != kPreambleByte) return refuse(Refusal::garbage, "neither a preamble nor TLS");
  if (context_ == nullptr || first != kHandshakeRecord) {
    state_ = State::greeting;
    return read_preamble();
  }
  TlsDialogue dialogue;
  dialogue.context = context_;
  dialogue.role = TlsRole::server;
  if (!stream_.secure(std::move(dialogue))) return close();
  state_ = State::securing;
  secure();
}

void Greeting::secure() {
  TlsProblem problem;
  switch (stream_.tls()->handshake(&problem)) {
    case TlsStream::Step::failed:
      mover_.refusals().add(problem.reason, Address::of_peer(stream_.fd()).endpoint(), problem.failure.detail);
      return leave();
    case TlsStream::Step::again:
      return poller_.change(*this, stream_.fd(), stream_.waiting() ? EPOLLIN | EPOLLOUT : EPOLLIN);
    case TlsStream::Step::done:
      poller_.change(*this, stream_.fd(), EPOLLIN);
      state_ = State::greeting;
      return read_preamble();
  }
}

void Greeting::read_preamble() {
  const ssize_t count = stream_.receive(bytes_.data() + have_, bytes_.size() - have_);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count <= 0) {
    // Over TLS a client learns only now whether its certificate was taken, or says that it has not taken ours.
    const bool said = count < 0 && stream_.tls() != nullptr;
    return said ? refuse(Refusal::handshake, stream_.tls()->failure().detail) : close();
  }
  have_ += size_t(count);
  if (bytes_[0] == kHandshakeRecord && context_ == nullptr) {
    mover_.refusals().add(Refusal::tls, Address::of_peer(stream_.fd()).endpoint(), "it speaks TLS");
    return answer(Code::tls_failed, "this node speaks no TLS");
  }
  if (have_ == bytes_.size()) admit();
}

void Greeting::admit() {
  Preamble preamble;
  if (!decode_preamble(bytes_.data(), &preamble)) return refuse(Refusal::garbage, "no preamble");
  if (context_ != nullptr && stream_.tls() == nullptr) {
    mover_.refusals().add(Refusal::plain, Address::of_peer(stream_.fd()).endpoint(), "it does not speak TLS");
    if (preamble.kind == PreambleKind::control) return answer(Code::tls_failed, "the peer wants TLS");
    return close();
  }
  if (preamble.version != kWireVersion) {
    if (preamble.kind == PreambleKind::control) return answer(Code::version_unsupported, "");
    return close();
  }
  if (preamble.kind == PreambleKind::lane && mover_.hold_lane(*this, preamble)) {
    state_ = State::held;
    // What a lane says meanwhile stays in the socket.
    return poller_.change(*this, stream_.fd(), EPOLLRDHUP);
  }
  // From here on the socket is another channel's, with another poller perhaps.
  poller_.unwatch(stream_.fd());
  if (preamble.kind == PreambleKind::control) mover_.adopt_control(std::move(stream_));
  else mover_.adopt_lane(std::move(stream_), preamble);
  close();
}

void Greeting::answer(Code code, const std::string& detail) {
  const std::vector<uint8_t> framed = refusal(code, detail);
  // A fresh socket has room; if not, the peer learns it from the close.
  [[maybe_unused]] const ssize_t sent = stream_.send(framed.data(), framed.size());
  leave();
}

void Greeting::leave() {
  state_ = State::leaving;
  stream_.half_close();
  poller_.change(*this, stream_.fd(), EPOLLIN);
  poller_.set_deadline(*this, now_us() + kLeaveUs);
}

void Greeting::refuse(Refusal reason, const std::string& detail) {
  mover_.refusals().add(reason, Address::of_peer(stream_.fd()).endpoint(), detail);
  close();
}

void Greeting::close() {
  if (stream_.fd() >= 0) poller_.unwatch(stream_.fd());
  stream_.close();
  if (state_ == State::held) mover_.let_go_of_lane(*this);
  mover_.doorstep().leave(*this);
  poller_.retire(*this);
}

}  // namespace kvferry
