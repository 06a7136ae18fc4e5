// A lane's life: connecting, securing (over TLS), waiting (for its control channel), greeting, up, dead.
#include "lane.h"

#include <sys/epoll.h>

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

TcpLane::TcpLane(Poller& poller, std::shared_ptr<TcpConnection> connection, uint32_t index, Stream stream, const LaneOptions& options)
    : Channel(poller, std::move(stream)), LaneEnd(index), connection_(std::move(connection)), options_(options), state_(State::up),
      answers_(2 * kUnansweredChunks) {}

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
    set_lane_options(stream_.fd(), options_);
    interest_ = EPOLLIN;
    watched = poller_.watch(*this, stream_.fd(), interest_);
    // The confirmation is the first thing that the initiator hears.
    answers_.push({.type = FrameType::pong});
  }
  if (!watched) return close(Code::connect_failed);
  come_up();
  // What came together with the preamble.
  if (stream_.pending()) post(request::kRead);
}

// As soon as it is known where to.
void TcpLane::connect() {
  if (stream_.fd() >= 0 || connection_->stage() == TcpConnection::Stage::unknown) return;
  Failure failure;
  bool watched = false;
  {
    std::lock_guard<std::mutex> lock(send_mutex_);
    stream_ = Stream(begin_connect(connection_->remote(), &failure));
    if (stream_.fd() >= 0) {
      set_lane_options(stream_.fd(), options_);
      interest_ = EPOLLOUT;
      watched = poller_.watch(*this, stream_.fd(), interest_);
    }
  }
  if (!watched) close(Code::connect_failed);
}

void TcpLane::on_ready(uint32_t epoll_events) {
  if (state_ == State::connecting) return connected();
  if (state_ == State::securing) return secure();
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
  if (connect_result(stream_.fd()) != 0) return close(Code::connect_failed);
  std::shared_ptr<TlsContext> context = connection_->mover.tls();
  bool secured = true;
  {
    std::lock_guard<std::mutex> lock(send_mutex_);
    // Now that both addresses are known.
    set_lane_options(stream_.fd(), options_);
    state_ = context == nullptr ? State::waiting : State::securing;
    if (context == nullptr) set_interest_locked();
    else secured = stream_.secure(connection_->dialogue(std::move(context)));
  }
  if (!secured) return close(Code::tls_failed);
  if (state_ == State::securing) return secure();
  greet();
}

void TcpLane::secure() {
  TlsProblem problem;
  const TlsStream::Step step = stream_.tls()->handshake(&problem);
  if (step == TlsStream::Step::failed) return close(problem.failure.code);
  {
    std::lock_guard<std::mutex> lock(send_mutex_);
    wants_out_ = stream_.waiting();
    if (step == TlsStream::Step::done) {
      state_ = State::waiting;
      // The listener's tickets come before it knows what this is; they stay in the socket.
      wants_in_ = wants_out_ = false;
    }
    set_interest_locked();
  }
  if (step == TlsStream::Step::done) greet();
}

// Once the control channel stands: who answers there is who was dialled, and over TLS must be who answers here.
void TcpLane::greet() {
  if (connection_->stage() != TcpConnection::Stage::open) return;
  if (!connection_->is_of_peer(stream_)) return close(Code::certificate_rejected);
  uint8_t bytes[kPreambleBytes];
  Preamble preamble;
  preamble.kind = PreambleKind::lane;
  preamble.lane = uint16_t(lane_index);
  memcpy(preamble.token, token_.data(), kTokenBytes);
  encode_preamble(preamble, bytes);
  // The buffer of a new socket takes this whole.
  if (stream_.send(bytes, sizeof bytes) != ssize_t(sizeof bytes)) return close(Code::connect_failed);
  std::lock_guard<std::mutex> lock(send_mutex_);
  state_ = State::greeting;
  wants_in_ = true;
  wants_out_ = stream_.waiting();
  set_interest_locked();
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
    if (stream_.fd() >= 0) poller_.unwatch(stream_.fd());
    stream_.close();
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
  if (stream_.fd() >= 0) set_lane_options(stream_.fd(), options);
}

void TcpLane::pad(uint64_t bytes) {
  {
    std::lock_guard<std::mutex> lock(send_mutex_);
    padding_left_ = bytes;
  }
  post(request::kSend);
}

void TcpLane::set_interest_locked() {
  const uint32_t interest = (wants_in_ ? uint32_t(EPOLLIN) : 0) | (wants_out_ ? uint32_t(EPOLLOUT) : 0);
  if (interest == interest_ || stream_.fd() < 0) return;
  interest_ = interest;
  poller_.change(*this, stream_.fd(), interest);
}

}  // namespace kvferry
