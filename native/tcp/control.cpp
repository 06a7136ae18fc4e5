#include "control.h"

#include <sys/epoll.h>
#include <unistd.h>

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

ControlChannel::ControlChannel(Poller& poller, std::shared_ptr<TcpConnection> connection, int fd)
    : Channel(poller), connection_(std::move(connection)), timeout_ms_(0), state_(State::open) {
  fd_ = fd;
}

void ControlChannel::on_attached() {
  if (state_ == State::dialing) {
    poller_.set_deadline(*this, now_us() + uint64_t(timeout_ms_) * 1000);
    return connect();
  }
  bool watched = false;
  {
    std::lock_guard<std::mutex> lock(out_mutex_);
    interest_ = outbox_.empty() ? EPOLLIN : EPOLLIN | EPOLLOUT;
    watched = poller_.watch(*this, fd_, interest_);
    attached_ = true;
  }
  if (!watched) close(Code::connection_lost, describe_error(errno));
}

void ControlChannel::connect() {
  Failure failure;
  for (; address_ < addresses_.size(); address_++) {
    std::lock_guard<std::mutex> lock(out_mutex_);
    attached_ = true;
    fd_ = begin_connect(addresses_[address_], &failure);
    interest_ = EPOLLOUT;
    if (fd_ < 0) continue;
    if (poller_.watch(*this, fd_, interest_)) return;
    failure = {Code::connect_failed, describe_error(errno)};
    ::close(std::exchange(fd_, -1));
  }
  close(failure.code, failure.detail);
}

bool ControlChannel::send(const uint8_t* message, size_t bytes) {
  std::lock_guard<std::mutex> lock(out_mutex_);
  if (!takes_ || (state_ != State::open && state_ != State::dialing)) return false;
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
  if ((epoll_events & EPOLLOUT) != 0) write();
  if (state_ == State::finishing) return discard();
  if (state_ != State::open) return;
  if ((epoll_events & (EPOLLIN | EPOLLERR | EPOLLHUP)) == 0) return;
  if (reading_) return read();
  if ((epoll_events & (EPOLLERR | EPOLLHUP)) != 0) close(Code::connection_lost, describe_error(connect_result(fd_)));
}

void ControlChannel::connected() {
  const int error = connect_result(fd_);
  if (error != 0 && address_ + 1 < addresses_.size()) {
    poller_.unwatch(fd_);
    ::close(std::exchange(fd_, -1));
    address_ += 1;
    return connect();
  }
  if (error != 0) return close(Code::connect_failed, describe_error(error));
  poller_.set_deadline(*this, 0);
  connection_->set_remote(Address::of_peer(fd_));
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
  if (state_ == State::dialing) return close(Code::closed, "");
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
  if (state_ == State::dialing) return close(Code::connect_timeout, "no answer in " + std::to_string(timeout_ms_) + " ms");
  close(Code::closed, "");
}

void ControlChannel::read() {
  const char* why = "";
  for (size_t turn = 0; turn < kTurnBytes;) {
    if (!digest(&why)) return close(Code::protocol_error, why);
    if (!reading_) return;
    if (inbound_.size() - inbound_bytes_ < kReadBytes) inbound_.resize(std::max(inbound_.size() * 2, inbound_bytes_ + kReadBytes));
    const size_t wanted = inbound_.size() - inbound_bytes_;
    const ssize_t count = recv(fd_, inbound_.data() + inbound_bytes_, wanted, 0);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0) return close(Code::connection_lost, count == 0 ? "closed by the peer" : describe_error(errno));
    inbound_bytes_ += size_t(count);
    turn += size_t(count);
    if (size_t(count) == wanted) continue;
    if (!digest(&why)) close(Code::protocol_error, why);
    return;
  }
}

bool ControlChannel::digest(const char** why) {
  size_t at = 0;
  bool right = true;
  while (inbound_bytes_ - at >= kMessageHeadBytes) {
    uint32_t bytes, crc;
    decode_message_head(inbound_.data() + at, &bytes, &crc);
    if (bytes == 0 || bytes > connection_->mover.bounds.message_bytes) {
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
    if (alive && state_ == State::finishing && outbox_.empty() && !std::exchange(half_closed_, true)) shutdown(fd_, SHUT_WR);
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
    const ssize_t count = recv(fd_, poller_.sink(), Poller::kSinkBytes, 0);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0) return close(Code::closed, "");
    turn += size_t(count);
  }
}

bool ControlChannel::flush_locked() {
  while (!outbox_.empty()) {
    const std::vector<uint8_t>& message = outbox_.front();
    const ssize_t count = ::send(fd_, message.data() + outbox_first_, message.size() - outbox_first_, MSG_NOSIGNAL);
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

void ControlChannel::set_interest_locked() {
  const uint32_t interest = (reading_ ? uint32_t(EPOLLIN) : 0) | (outbox_.empty() ? 0 : uint32_t(EPOLLOUT));
  if (interest == interest_ || fd_ < 0) return;
  interest_ = interest;
  poller_.change(*this, fd_, interest);
}

void ControlChannel::close(Code code, const std::string& detail) {
  bool was_dialing = false;
  {
    std::lock_guard<std::mutex> lock(out_mutex_);
    if (state_ == State::closed) return;
    was_dialing = state_ == State::dialing;
    state_ = State::closed;
    if (fd_ >= 0) {
      poller_.unwatch(fd_);
      ::close(std::exchange(fd_, -1));
    }
    outbox_.clear();
  }
  poller_.retire(*this);
  // The reservation of `connected` was not used.
  if (was_dialing) connection_->mover.events().release(Quota::table);
  connection_->control_closed(code, detail);
}

}  // namespace kvferry
