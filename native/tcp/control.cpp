#include "control.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "../core/clock.h"
#include "../core/crc32c.h"
#include "../core/frame.h"
#include "mover.h"
#include "poller.h"

namespace kvferry {
namespace {

constexpr size_t kReadBytes = 64 << 10;
constexpr size_t kTurnBytes = 1 << 20;
constexpr uint64_t kFlushUs = 1'000'000;

}  // namespace

ControlChannel::ControlChannel(Poller& poller, std::shared_ptr<TcpConnection> connection, std::vector<Address> addresses, uint32_t timeout_ms)
    : Channel(poller), connection_(std::move(connection)), addresses_(std::move(addresses)), timeout_ms_(timeout_ms), state_(State::dialing) {
  // The preamble is the first thing in the queue.
  std::vector<uint8_t> preamble(kPreambleBytes);
  encode_preamble({}, preamble.data());
  outbox_bytes_ = preamble.size();
  outbox_.push_back(std::move(preamble));
}

ControlChannel::ControlChannel(Poller& poller, std::shared_ptr<TcpConnection> connection, Stream stream)
    : Channel(poller, std::move(stream)), connection_(std::move(connection)), timeout_ms_(0), state_(State::open) {}

void ControlChannel::on_attached() {
  if (state_ == State::dialing) {
    poller_.set_deadline(*this, now_us() + uint64_t(timeout_ms_) * 1000);
    return connect();
  }
  bool watched = false;
  {
    std::lock_guard<std::mutex> lock(out_mutex_);
    interest_ = interest();
    watched = poller_.watch(*this, stream_.fd(), interest_);
    attached_ = true;
  }
  if (!watched) return close(Code::connection_lost, describe_error(errno));
  // What came together with the preamble.
  if (stream_.pending()) post(request::kRead);
}

void ControlChannel::connect() {
  Failure failure;
  for (; address_ < addresses_.size(); address_++) {
    std::lock_guard<std::mutex> lock(out_mutex_);
    attached_ = true;
    stream_ = Stream(begin_connect(addresses_[address_], &failure));
    interest_ = EPOLLOUT;
    if (stream_.fd() < 0) continue;
    if (poller_.watch(*this, stream_.fd(), interest_)) return;
    failure = {Code::connect_failed, describe_error(errno)};
    stream_.close();
  }
  close(failure.code, failure.detail);
}

bool ControlChannel::send(const uint8_t* message, size_t bytes) {
  std::lock_guard<std::mutex> lock(out_mutex_);
  if (!takes_ || (state_ != State::open && !is_opening())) return false;
  const size_t framed_bytes = kMessageHeadBytes + bytes;
  if (!outbox_.empty() && outbox_bytes_ + framed_bytes > connection_->mover.bounds.queue_bytes) return false;
  std::vector<uint8_t> framed(framed_bytes);
  encode_message_head(uint32_t(bytes), crc32c(0, message, bytes), framed.data());
  memcpy(framed.data() + kMessageHeadBytes, message, bytes);
  const bool direct = outbox_.empty() && state_ == State::open && attached_;
  outbox_bytes_ += framed_bytes;
  outbox_.push_back(std::move(framed));
  // A broken socket is for the poller to find, which epoll tells it.
  if (direct) flush_locked();
  if (attached_ && state_ == State::open) set_interest_locked();
  return true;
}

void ControlChannel::disconnect() {
  {
    std::lock_guard<std::mutex> lock(out_mutex_);
    takes_ = false;
  }
  post(request::kFinish);
}

void ControlChannel::on_ready(uint32_t epoll_events) {
  if (state_ == State::dialing) return connected();
  if (state_ == State::securing) return secure();
  if ((epoll_events & EPOLLOUT) != 0) write();
  if (state_ == State::finishing) return discard();
  if (state_ != State::open) return;
  if ((epoll_events & (EPOLLIN | EPOLLERR | EPOLLHUP)) == 0) return;
  if (reading_) return read();
  if ((epoll_events & (EPOLLERR | EPOLLHUP)) != 0) close(Code::connection_lost, describe_error(connect_result(stream_.fd())));
}

void ControlChannel::connected() {
  const int error = connect_result(stream_.fd());
  if (error != 0 && address_ + 1 < addresses_.size()) {
    poller_.unwatch(stream_.fd());
    stream_.close();
    address_ += 1;
    return connect();
  }
  if (error != 0) return close(Code::connect_failed, describe_error(error));
  connection_->set_remote(Address::of_peer(stream_.fd()));
  std::shared_ptr<TlsContext> context = connection_->mover.tls();
  if (context == nullptr) return opened();
  bool begun = false;
  {
    std::lock_guard<std::mutex> lock(out_mutex_);
    state_ = State::securing;
    begun = stream_.secure(connection_->dialogue(std::move(context)));
  }
  if (!begun) return close(Code::tls_failed, "OpenSSL has no memory");
  secure();
}

void ControlChannel::secure() {
  TlsProblem problem;
  switch (stream_.tls()->handshake(&problem)) {
    case TlsStream::Step::failed:
      return close(problem.failure.code, problem.failure.detail);
    case TlsStream::Step::again: {
      std::lock_guard<std::mutex> lock(out_mutex_);
      return set_interest_locked();
    }
    case TlsStream::Step::done:
      connection_->set_peer(stream_.tls()->peer());
      return opened();
  }
}

void ControlChannel::opened() {
  poller_.set_deadline(*this, 0);
  bool alive = false;
  {
    std::lock_guard<std::mutex> lock(out_mutex_);
    state_ = State::open;
    alive = flush_locked();
    set_interest_locked();
  }
  connection_->emit(EventKind::connected);
  connection_->set_stage(TcpConnection::Stage::open);
  if (!alive) close(Code::connection_lost, "the connection broke as it began");
}

void ControlChannel::on_requests(uint32_t requests) {
  if ((requests & request::kClose) != 0) return close(Code::closed, "");
  if ((requests & request::kFinish) != 0) finish();
  if ((requests & request::kRead) == 0 || state_ != State::open) return;
  {
    std::lock_guard<std::mutex> lock(out_mutex_);
    reading_ = true;
    set_interest_locked();
  }
  read();
}

void ControlChannel::finish() {
  if (state_ == State::closed || state_ == State::finishing) return;
  connection_->end_lanes(Code::closed);
  if (is_opening()) return close(Code::closed, "");
  poller_.set_deadline(*this, now_us() + kFlushUs);
  {
    std::lock_guard<std::mutex> lock(out_mutex_);
    state_ = State::finishing;
    reading_ = true;
    set_interest_locked();
  }
  write();
}

void ControlChannel::on_deadline() {
  if (is_opening()) return close(Code::connect_timeout, "no answer in " + std::to_string(timeout_ms_) + " ms");
  close(Code::closed, "");
}

void ControlChannel::read() {
  const char* why = "";
  for (size_t turn = 0; turn < kTurnBytes;) {
    if (!digest(&why)) return close(Code::protocol_error, why);
    if (!reading_) return;
    if (inbound_.size() - inbound_bytes_ < kReadBytes) inbound_.resize(std::max(inbound_.size() * 2, inbound_bytes_ + kReadBytes));
    const size_t wanted = inbound_.size() - inbound_bytes_;
    const ssize_t count = stream_.receive(inbound_.data() + inbound_bytes_, wanted);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0) return broken(count == 0 ? 0 : errno);
    inbound_bytes_ += size_t(count);
    turn += size_t(count);
    if (size_t(count) == wanted) continue;
    if (!digest(&why)) return close(Code::protocol_error, why);
    break;
  }
  if (reading_ && stream_.pending()) post(request::kRead);
}

// `error`: of the socket; 0: its end.
void ControlChannel::broken(int error) {
  const Failure failure = error == EPROTO && stream_.tls() != nullptr ? stream_.tls()->failure() : Failure();
  if (failure) return close(failure.code, failure.detail);
  close(Code::connection_lost, error == 0 ? "closed by the peer" : describe_error(error));
}

bool ControlChannel::digest(const char** why) {
  size_t at = 0;
  bool right = true;
  while (inbound_bytes_ - at >= kMessageHeadBytes) {
    uint32_t bytes, crc;
    decode_message_head(inbound_.data() + at, &bytes, &crc);
    const Bounds& bounds = connection_->mover.bounds;
    if (bytes == 0 || bytes > (connection_->is_admitted() ? bounds.message_bytes : bounds.greeting_bytes)) {
      *why = "a control message of a bad length";
      right = false;
      break;
    }
    if (inbound_bytes_ - at - kMessageHeadBytes < bytes) break;
    const uint8_t* message = inbound_.data() + at + kMessageHeadBytes;
    const bool room = connection_->has_room();
    if (!room || !connection_->mover.events().reserve(Quota::message)) {
      if (room) poller_.wait_for_room(*this);
      std::lock_guard<std::mutex> lock(out_mutex_);
      reading_ = false;
      set_interest_locked();
      break;
    }
    if (crc32c(0, message, bytes) != crc) {
      connection_->mover.events().release(Quota::message);
      *why = "a control message with a wrong checksum";
      right = false;
      break;
    }
    connection_->deliver(std::vector<uint8_t>(message, message + bytes));
    at += kMessageHeadBytes + bytes;
  }
  if (at > 0) memmove(inbound_.data(), inbound_.data() + at, inbound_bytes_ - at);
  inbound_bytes_ -= at;
  // A large message came and went: its buffer need not stay.
  if (inbound_.size() > 4 * kReadBytes && inbound_bytes_ < kReadBytes) {
    inbound_.resize(kReadBytes);
    inbound_.shrink_to_fit();
  }
  return right;
}

void ControlChannel::write() {
  bool alive = false, done = false;
  {
    std::lock_guard<std::mutex> lock(out_mutex_);
    alive = flush_locked();
    if (alive && state_ == State::finishing && outbox_.empty() && !stream_.waiting() && !std::exchange(half_closed_, true)) stream_.half_close();
    set_interest_locked();
    done = !alive && state_ == State::finishing;
  }
  if (done) close(Code::closed, "");
  // A socket that broke while open is found by the read that epoll asks for.
}

// Until the peer has closed too, so that unread bytes of its do not make the kernel take back what we flushed.
void ControlChannel::discard() {
  if (state_ != State::finishing) return;
  for (size_t turn = 0; turn < kTurnBytes;) {
    const ssize_t count = recv(stream_.fd(), poller_.sink(), Poller::kSinkBytes, 0);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0) return close(Code::closed, "");
    turn += size_t(count);
  }
}

bool ControlChannel::flush_locked() {
  if (stream_.waiting() && !stream_.flush()) return errno == EAGAIN;
  while (!outbox_.empty()) {
    const std::vector<uint8_t>& message = outbox_.front();
    const ssize_t count = stream_.send(message.data() + outbox_first_, message.size() - outbox_first_);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno == EAGAIN;
    outbox_first_ += size_t(count);
    outbox_bytes_ -= size_t(count);
    if (outbox_first_ < message.size()) return true;
    outbox_.pop_front();
    outbox_first_ = 0;
  }
  return true;
}

uint32_t ControlChannel::interest() const {
  const bool has_more = stream_.waiting() || (state_ != State::securing && !outbox_.empty());
  return (reading_ ? uint32_t(EPOLLIN) : 0) | (has_more ? uint32_t(EPOLLOUT) : 0);
}

void ControlChannel::set_interest_locked() {
  const uint32_t wanted = interest();
  if (wanted == interest_ || stream_.fd() < 0) return;
  interest_ = wanted;
  poller_.change(*this, stream_.fd(), wanted);
}

void ControlChannel::close(Code code, const std::string& detail) {
  bool was_opening = false;
  {
    std::lock_guard<std::mutex> lock(out_mutex_);
    if (state_ == State::closed) return;
    was_opening = is_opening();
    state_ = State::closed;
    if (stream_.fd() >= 0) poller_.unwatch(stream_.fd());
    stream_.close();
    outbox_.clear();
  }
  poller_.retire(*this);
  // The reservation of `connected` was not used.
  if (was_opening) connection_->mover.events().release(Quota::table);
  connection_->control_closed(code, detail);
}

}  // namespace kvferry
