// A socket as its owner reads and writes it, plain or under TLS: what is used in place of recv, readv and sendmsg, with their answers.
// Closes the socket.
#pragma once
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstddef>
#include <memory>
#include <utility>

#include "tls_stream.h"

namespace kvferry {

class Stream {
 public:
  explicit Stream(int fd = -1) : fd_(fd) {}
  ~Stream() { close(); }
  Stream(Stream&& other) noexcept : fd_(std::exchange(other.fd_, -1)), tls_(std::move(other.tls_)) {}
  Stream& operator=(Stream&& other) noexcept {
    close();
    fd_ = std::exchange(other.fd_, -1);
    tls_ = std::move(other.tls_);
    return *this;
  }

  // -1: there is none.
  int fd() const { return fd_; }
  void close() {
    tls_ = nullptr;
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

  // From here on it speaks TLS, a handshake first. False: no memory.
  bool secure(TlsDialogue dialogue) {
    tls_ = TlsStream::make(fd_, std::move(dialogue));
    return tls_ != nullptr;
  }
  // nullptr: plain.
  TlsStream* tls() const { return tls_.get(); }

  ssize_t receive(void* to, size_t bytes) {
    if (tls_ == nullptr) return recv(fd_, to, bytes, 0);
    const iovec vector = {to, bytes};
    return tls_->receive(&vector, 1);
  }
  ssize_t receive(const iovec* vectors, size_t count) {
    return tls_ == nullptr ? readv(fd_, vectors, int(count)) : tls_->receive(vectors, count);
  }
  ssize_t send(const void* from, size_t bytes) {
    if (tls_ == nullptr) return ::send(fd_, from, bytes, MSG_NOSIGNAL);
    const iovec vector = {const_cast<void*>(from), bytes};
    return tls_->send(&vector, 1, false);
  }
  // `more`: what follows at once may share a segment with the end of this.
  ssize_t send(const iovec* vectors, size_t count, bool more) {
    if (tls_ != nullptr) return tls_->send(vectors, count, more);
    msghdr message = {};
    message.msg_iov = const_cast<iovec*>(vectors);
    message.msg_iovlen = count;
    return sendmsg(fd_, &message, MSG_NOSIGNAL | (more ? MSG_MORE : 0));
  }

  // What was sent and the kernel has not taken: it goes before all else, and only by `flush` (false: errno says why) or another `send`.
  bool waiting() const { return tls_ != nullptr && tls_->waiting(); }
  bool flush() { return tls_ == nullptr || tls_->flush(); }
  // There is something to receive that epoll does not know of.
  bool pending() const { return tls_ != nullptr && tls_->pending(); }
  // Nothing follows.
  void half_close() {
    if (tls_ != nullptr) tls_->farewell();
    shutdown(fd_, SHUT_WR);
  }

 private:
  int fd_;
  std::unique_ptr<TlsStream> tls_;
};

}  // namespace kvferry
