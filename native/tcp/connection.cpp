#include "connection.h"

#include "control.h"
#include "lane.h"
#include "mover.h"

namespace kvferry {

TcpConnection::TcpConnection(uint64_t id, TcpMover& owner, bool initiates, uint32_t poller)
    : Exchange(id, owner.events(), owner.bounds, true), mover(owner), initiator(initiates), first_poller(poller), admitted_(initiates) {}

void TcpConnection::set_control(std::shared_ptr<ControlChannel> control) {
  std::lock_guard<std::mutex> lock(ends_mutex_);
  control_ = std::move(control);
}

std::shared_ptr<ControlChannel> TcpConnection::control() {
  std::lock_guard<std::mutex> lock(ends_mutex_);
  return control_;
}

void TcpConnection::set_remote(const Address& address) {
  std::lock_guard<std::mutex> lock(ends_mutex_);
  remote_ = address;
}

Address TcpConnection::remote() {
  std::lock_guard<std::mutex> lock(ends_mutex_);
  return remote_;
}

void TcpConnection::set_expected(const std::string& identity) {
  std::lock_guard<std::mutex> lock(ends_mutex_);
  expected_ = identity;
}

TlsDialogue TcpConnection::dialogue(std::shared_ptr<TlsContext> context) {
  std::lock_guard<std::mutex> lock(ends_mutex_);
  const Endpoint endpoint = remote_.endpoint();
  TlsDialogue dialogue;
  dialogue.context = std::move(context);
  dialogue.role = TlsRole::client;
  dialogue.expected = expected_;
  dialogue.target = endpoint.host + " " + std::to_string(endpoint.port) + " " + expected_;
  return dialogue;
}

void TcpConnection::set_peer(const TlsPeer& peer) {
  std::lock_guard<std::mutex> lock(ends_mutex_);
  peer_ = peer;
}

std::optional<TlsPeer> TcpConnection::peer() {
  std::lock_guard<std::mutex> lock(ends_mutex_);
  return peer_;
}

bool TcpConnection::is_of_peer(const Stream& stream) {
  std::lock_guard<std::mutex> lock(ends_mutex_);
  if (stream.tls() == nullptr) return !peer_;
  return peer_ && peer_->identity == stream.tls()->peer().identity;
}

void TcpConnection::set_stage(Stage stage) {
  std::lock_guard<std::mutex> lock(ends_mutex_);
  stage_ = stage;
  for (const std::shared_ptr<TcpLane>& lane : lanes_) lane->wake();
}

TcpConnection::Stage TcpConnection::stage() {
  std::lock_guard<std::mutex> lock(ends_mutex_);
  return stage_;
}

bool TcpConnection::add_lane(std::shared_ptr<TcpLane> lane) {
  std::lock_guard<std::mutex> lock(ends_mutex_);
  if (ending_) return false;
  for (const std::shared_ptr<TcpLane>& other : lanes_) {
    if (other->lane_index == lane->lane_index) return false;
  }
  lanes_.push_back(std::move(lane));
  return true;
}

std::shared_ptr<TcpLane> TcpConnection::lane(uint32_t index) {
  std::lock_guard<std::mutex> lock(ends_mutex_);
  for (const std::shared_ptr<TcpLane>& lane : lanes_) {
    if (lane->lane_index == index) return lane;
  }
  return nullptr;
}

std::vector<std::shared_ptr<TcpLane>> TcpConnection::lanes() {
  std::lock_guard<std::mutex> lock(ends_mutex_);
  return lanes_;
}

void TcpConnection::forget_lane(TcpLane& closing) {
  std::lock_guard<std::mutex> lock(ends_mutex_);
  std::erase_if(lanes_, [&](const std::shared_ptr<TcpLane>& lane) { return lane.get() == &closing; });
  lanes_closing_ += 1;
}

void TcpConnection::lane_closed() {
  bool last = false;
  {
    std::lock_guard<std::mutex> lock(ends_mutex_);
    lanes_closing_ -= 1;
    last = lanes_.empty() && lanes_closing_ == 0 && control_closed_;
  }
  if (last) finish();
}

void TcpConnection::drop_channels() {
  std::lock_guard<std::mutex> lock(ends_mutex_);
  control_ = nullptr;
  lanes_.clear();
}

void TcpConnection::end_lanes(Code code) {
  std::lock_guard<std::mutex> lock(ends_mutex_);
  if (ending_) return;
  ending_ = true;
  lane_code_ = code;
  for (const std::shared_ptr<TcpLane>& lane : lanes_) lane->post(request::kClose);
}

void TcpConnection::control_closed(Code code, const std::string& detail) {
  end_lanes(code == Code::closed ? Code::closed : Code::lane_lost);
  bool last = false;
  {
    std::lock_guard<std::mutex> lock(ends_mutex_);
    if (control_closed_) return;
    control_closed_ = true;
    code_ = code;
    reason_ = detail;
    control_ = nullptr;
    last = lanes_.empty() && lanes_closing_ == 0;
  }
  if (last) finish();
}

bool TcpConnection::is_ending() {
  std::lock_guard<std::mutex> lock(ends_mutex_);
  return ending_;
}

Code TcpConnection::lane_code() {
  std::lock_guard<std::mutex> lock(ends_mutex_);
  return lane_code_;
}

void TcpConnection::finish() {
  mover.connection_ended(*this);
  gone(code_, reason_);
}

void TcpConnection::emit(EventKind kind) {
  Event event;
  event.kind = kind;
  event.subject = double(id);
  mover.events().emit(Quota::table, event);
}

void TcpConnection::deliver(std::vector<uint8_t>&& message) {
  Event event;
  event.kind = EventKind::message;
  event.subject = double(id);
  event.bytes = uint32_t(message.size());
  {
    std::lock_guard<std::mutex> lock(ends_mutex_);
    inbox_bytes_ += message.size();
    inbox_.push_back(std::move(message));
  }
  mover.events().emit(Quota::message, event);
}

bool TcpConnection::has_room() {
  std::lock_guard<std::mutex> lock(ends_mutex_);
  inbox_full_ = inbox_bytes_ >= mover.bounds.queue_bytes;
  return !inbox_full_;
}

std::vector<uint8_t> TcpConnection::next_message() {
  std::lock_guard<std::mutex> lock(ends_mutex_);
  if (inbox_.empty()) return {};
  std::vector<uint8_t> message = std::move(inbox_.front());
  inbox_.pop_front();
  inbox_bytes_ -= message.size();
  if (inbox_full_ && inbox_bytes_ <= mover.bounds.queue_bytes / 2) {
    inbox_full_ = false;
    if (control_ != nullptr) control_->post(request::kRead);
  }
  return message;
}

}  // namespace kvferry
