// A lane's life: connecting, waiting (for its control channel), greeting, up, dead.
#include "lane.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "../core/clock.h"
#include "mover.h"
#include "poller.h"

namespace kvferry {

TcpLane::TcpLane(Poller& poller, std::shared_ptr<TcpConnection> connection, uint32_t index, const uint8_t* token, const LaneOptions& options)
    : Channel(poller), LaneEnd(index), connection_(std::move(connection)), options_(options), state_(State::connecting), answers_(2 * kUnansweredChunks) {
  memcpy(token_.data(), token, kTokenBytes);
}

TcpLane::TcpLane(Poller& poller, std::shared_ptr<TcpConnection> connection, uint32_t index, int fd, const LaneOptions& options)
    : Channel(poller), LaneEnd(index), connection_(std::move(connection)), options_(options), state_(State::up), answers_(2 * kUnansweredChunks) {
  fd_ = fd;
}

std::shared_ptr<LaneEnd> TcpLane::share() { return std::static_pointer_cast<TcpLane>(shared_from_this()); }

void TcpLane::on_attached() {
  copied_ = std::make_unique_for_overwrite<uint8_t[]>(kCopiedBytes);
  ahead_ = std::make_unique_for_overwrite<uint8_t[]>(kCopiedChunkBytes);
  if (state_ == State::connecting) {
    poller_.set_deadline(*this, now_us() + uint64_t(connection_->mover.bounds.connect_timeout_ms) * 1000);
    return connect();
  }
  bool watched = false;
  {
    std::lock_guard<std::mutex> lock(send_mutex_);
    set_lane_options(fd_, options_);
    interest_ = EPOLLIN;
    watched = poller_.watch(*this, fd_, interest_);
    // The confirmation is the first thing that the initiator hears.
    answers_.push({.type = FrameType::pong});
  }
  if (!watched) return close(Code::connect_failed);
  come_up();
}

// As soon as it is known where to.
void TcpLane::connect() {
  if (fd_ >= 0 || connection_->stage() == TcpConnection::Stage::unknown) return;
  Failure failure;
  bool watched = false;
  {
    std::lock_guard<std::mutex> lock(send_mutex_);
    fd_ = begin_connect(connection_->remote(), &failure);
    if (fd_ >= 0) {
      set_lane_options(fd_, options_);
      interest_ = EPOLLOUT;
      watched = poller_.watch(*this, fd_, interest_);
    }
  }
  if (!watched) close(Code::connect_failed);
}

void TcpLane::on_ready(uint32_t epoll_events) {
  if (state_ == State::connecting) return connected();
  // Nobody speaks before a lane has said what it is.
  if (state_ == State::waiting) return close(Code::connect_failed);
  if ((epoll_events & EPOLLOUT) != 0) send(true);
  if (state_ == State::dead || (epoll_events & (EPOLLIN | EPOLLERR | EPOLLHUP)) == 0) return;
  // While reading is paused a broken socket would be reported for ever.
  if (!wants_in_ && (epoll_events & (EPOLLERR | EPOLLHUP)) != 0) return close(Code::lane_lost);
  receive();
}

void TcpLane::on_requests(uint32_t requests) {
  if (state_ == State::dead) return;
  if ((requests & request::kClose) != 0) return close(asked_.load() ? Code::closed : connection_->lane_code());
  if ((requests & request::kLetGo) != 0) {
    let_go();
    std::lock_guard<std::mutex> lock(send_mutex_);
    abandon();
  }
  if (state_ == State::connecting) return connect();
  if (state_ == State::waiting) return greet();
  if (state_ != State::up) return;
  if ((requests & (request::kSend | request::kLetGo)) != 0) send(false);
  if (state_ == State::dead || (requests & request::kRead) == 0) return;
  {
    std::lock_guard<std::mutex> lock(send_mutex_);
    wants_in_ = !choked_;
    set_interest_locked();
  }
  receive();
}

void TcpLane::on_deadline() { close(Code::connect_timeout); }

void TcpLane::connected() {
  if (connect_result(fd_) != 0) return close(Code::connect_failed);
  {
    std::lock_guard<std::mutex> lock(send_mutex_);
    // Now that both addresses are known.
    set_lane_options(fd_, options_);
    state_ = State::waiting;
    set_interest_locked();
  }
  greet();
}

// Once the control channel stands: who answers there is who was dialled.
void TcpLane::greet() {
  if (connection_->stage() != TcpConnection::Stage::open) return;
  uint8_t bytes[kPreambleBytes];
  Preamble preamble;
  preamble.kind = PreambleKind::lane;
  preamble.lane = uint16_t(lane_index);
  memcpy(preamble.token, token_.data(), kTokenBytes);
  encode_preamble(preamble, bytes);
  // The buffer of a new socket takes this whole.
  if (::send(fd_, bytes, sizeof bytes, MSG_NOSIGNAL) != ssize_t(sizeof bytes)) return close(Code::connect_failed);
  std::lock_guard<std::mutex> lock(send_mutex_);
  state_ = State::greeting;
}

void TcpLane::come_up() {
  poller_.set_deadline(*this, 0);
  {
    std::lock_guard<std::mutex> lock(send_mutex_);
    state_ = State::up;
  }
  connection_->lane_up(*this);
  // Says the confirmation, takes what waits, or is noted as idle.
  send(false);
}

void TcpLane::close(Code code) {
  {
    std::lock_guard<std::mutex> lock(send_mutex_);
    if (state_ == State::dead) return;
    state_ = State::dead;
    if (fd_ >= 0) {
      poller_.unwatch(fd_);
      ::close(std::exchange(fd_, -1));
    }
  }
  placement_ = nullptr;
  poller_.retire(*this);
  // Its index is free before anybody hears that it went down, and may open it again; the connection ends after that is told.
  connection_->forget_lane(*this);
  connection_->lane_down(*this, code);
  connection_->lane_closed();
}

void TcpLane::close_asked() {
  asked_.store(true);
  post(request::kClose);
}

void TcpLane::tune(const LaneOptions& options) {
  std::lock_guard<std::mutex> lock(send_mutex_);
  options_ = options;
  if (fd_ >= 0) set_lane_options(fd_, options);
}

void TcpLane::set_interest_locked() {
  const uint32_t interest = (wants_in_ ? uint32_t(EPOLLIN) : 0) | (wants_out_ ? uint32_t(EPOLLOUT) : 0);
  if (interest == interest_ || fd_ < 0) return;
  interest_ = interest;
  poller_.change(*this, fd_, interest);
}

}  // namespace kvferry
