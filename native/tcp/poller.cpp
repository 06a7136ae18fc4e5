#include "poller.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <utility>

#include "../core/clock.h"

namespace kvferry {
namespace {

constexpr int kEventsPerWait = 64;

}  // namespace

void Channel::post(uint32_t requests) {
  if (requests_.fetch_or(requests) == 0) poller_.post(shared_from_this());
}

Poller::~Poller() {
  join();
  clear();
  if (epoll_fd_ >= 0) close(epoll_fd_);
  if (wake_fd_ >= 0) close(wake_fd_);
}

bool Poller::start(uint32_t index, EventQueue* events) {
  events_ = events;
  epoll_fd_ = epoll_create1(EPOLL_CLOEXEC);
  wake_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (epoll_fd_ < 0 || wake_fd_ < 0) return false;
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.ptr = nullptr;
  if (epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, wake_fd_, &event) != 0) return false;
  sink_.resize(kSinkBytes);
  // A thread inherits the mask: signals stay with Node's threads.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  running_ = pthread_create(&thread_, nullptr, main, this) == 0;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (!running_) return false;
  char name[16];
  snprintf(name, sizeof name, "kvferry-io-%u", index);
  pthread_setname_np(thread_, name);
  return true;
}

void* Poller::main(void* poller) {
  static_cast<Poller*>(poller)->run();
  return nullptr;
}

void Poller::join() {
  if (std::exchange(running_, false)) {
    stopping_.store(true);
    wake();
    pthread_join(thread_, nullptr);
  }
}

void Poller::clear() {
  timed_.clear();
  waiting_.clear();
  channels_.clear();
  retired_.clear();
  attached_.clear();
  posted_.clear();
}

void Poller::attach(std::shared_ptr<Channel> channel) {
  std::unique_lock<std::mutex> lock(posts_mutex_);
  attached_.push_back(std::move(channel));
  if (std::exchange(awake_, true)) return;
  lock.unlock();
  wake();
}

void Poller::post(std::shared_ptr<Channel> channel) {
  std::unique_lock<std::mutex> lock(posts_mutex_);
  posted_.push_back(std::move(channel));
  if (std::exchange(awake_, true)) return;
  lock.unlock();
  wake();
}

void Poller::refill() {
  std::unique_lock<std::mutex> lock(posts_mutex_);
  refill_ = true;
  if (std::exchange(awake_, true)) return;
  lock.unlock();
  wake();
}

void Poller::wake() {
  const uint64_t one = 1;
  // A full counter means that a wake-up is pending already.
  [[maybe_unused]] const ssize_t written = write(wake_fd_, &one, sizeof one);
}

bool Poller::watch(Channel& channel, int fd, uint32_t epoll_events) {
  epoll_event event = {};
  event.events = epoll_events;
  event.data.ptr = &channel;
  return epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event) == 0;
}

void Poller::change(Channel& channel, int fd, uint32_t epoll_events) {
  epoll_event event = {};
  event.events = epoll_events;
  event.data.ptr = &channel;
  epoll_ctl(epoll_fd_, EPOLL_CTL_MOD, fd, &event);
}

void Poller::unwatch(int fd) { epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, fd, nullptr); }

void Poller::retire(Channel& channel) {
  if (channel.retired_) return;
  channel.retired_ = true;
  std::erase(timed_, &channel);
  std::erase(waiting_, &channel);
  const auto found = channels_.find(&channel);
  if (found == channels_.end()) return;
  retired_.push_back(std::move(found->second));
  channels_.erase(found);
}

void Poller::set_deadline(Channel& channel, uint64_t at_us) {
  if (channel.deadline_us_ == 0 && at_us != 0) timed_.push_back(&channel);
  if (channel.deadline_us_ != 0 && at_us == 0) std::erase(timed_, &channel);
  channel.deadline_us_ = at_us;
}

void Poller::wait_for_room(Channel& channel) {
  if (std::find(waiting_.begin(), waiting_.end(), &channel) == waiting_.end()) waiting_.push_back(&channel);
}

// `most_ms`: -1 = no bound.
int Poller::timeout_ms(int most_ms) const {
  if (timed_.empty()) return most_ms;
  uint64_t first = UINT64_MAX;
  for (const Channel* channel : timed_) first = std::min(first, channel->deadline_us_);
  const uint64_t now = now_us();
  if (first <= now) return 0;
  const int wait_ms = int(std::min<uint64_t>((first - now + 999) / 1000, 60'000));
  return most_ms < 0 ? wait_ms : std::min(wait_ms, most_ms);
}

void Poller::run() {
  epoll_event events[kEventsPerWait];
  while (!stopping_.load()) {
    const int count = epoll_wait(epoll_fd_, events, kEventsPerWait, timeout_ms(events_->serve_lazy()));
    for (int index = 0; index < count; index++) {
      Channel* channel = static_cast<Channel*>(events[index].data.ptr);
      if (channel == nullptr) {
        uint64_t counter;
        [[maybe_unused]] const ssize_t read_bytes = read(wake_fd_, &counter, sizeof counter);
        serve_posts();
      } else if (!channel->retired_) {
        channel->on_ready(events[index].events);
      }
    }
    serve_deadlines();
    // Nothing of this batch names them any more.
    retired_.clear();
  }
}

void Poller::serve_posts() {
  bool refilled = false;
  {
    std::lock_guard<std::mutex> lock(posts_mutex_);
    attaching_.swap(attached_);
    serving_.swap(posted_);
    refilled = std::exchange(refill_, false);
    awake_ = false;
  }
  for (std::shared_ptr<Channel>& channel : attaching_) {
    // Somebody may have had it closed before it came here.
    if (channel->retired_) continue;
    channels_.emplace(channel.get(), channel);
    channel->on_attached();
  }
  attaching_.clear();
  for (std::shared_ptr<Channel>& channel : serving_) {
    const uint32_t requests = channel->requests_.exchange(0);
    if (!channel->retired_) channel->on_requests(requests);
  }
  serving_.clear();
  if (!refilled) return;
  for (Channel* channel : std::exchange(waiting_, {})) {
    if (!channel->retired_) channel->on_requests(request::kRead);
  }
}

void Poller::serve_deadlines() {
  if (timed_.empty()) return;
  const uint64_t now = now_us();
  for (size_t index = 0; index < timed_.size();) {
    Channel* channel = timed_[index];
    if (channel->deadline_us_ > now) {
      index += 1;
      continue;
    }
    channel->deadline_us_ = 0;
    timed_.erase(timed_.begin() + long(index));
    channel->on_deadline();
    index = 0;
  }
}

}  // namespace kvferry
