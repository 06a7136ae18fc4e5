// A socket as its owner reads and writes it: what is used in place of recv, readv and sendmsg, with their answers. Closes the socket.
#pragma once
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstddef>
#include <utility>

namespace kvferry {

class Stream {
 public:
  explicit Stream(int fd = -1) : fd_(fd) {}
  ~Stream() { close(); }
  Stream(Stream&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Stream& operator=(Stream&& other) noexcept {
    close();
    fd_ = std::exchange(other.fd_, -1);
    return *this;
  }

  // -1: there is none.
  int fd() const { return fd_; }
  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

  ssize_t receive(void* to, size_t bytes) { return recv(fd_, to, bytes, 0); }
  ssize_t receive(const iovec* vectors, size_t count) { return readv(fd_, vectors, int(count)); }
  ssize_t send(const void* from, size_t bytes) { return ::send(fd_, from, bytes, MSG_NOSIGNAL); }
  // `more`: what follows at once may share a segment with the end of this.
  ssize_t send(const iovec* vectors, size_t count, bool more) {
    msghdr message = {};
    message.msg_iov = const_cast<iovec*>(vectors);
    message.msg_iovlen = count;
    return sendmsg(fd_, &message, MSG_NOSIGNAL | (more ? MSG_MORE : 0));
  }

 private:
  int fd_;
};

}  // namespace kvferry
