// A socket's bytes under TLS: records go out many at a time and come in as many as there are. Plaintext is taken from where it lies and
// put where it belongs; ciphertext passes through two buffers, which an idle socket has not.
#pragma once
#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>

#include "tls.h"

struct ssl_st;
struct bio_st;

namespace kvferry {

constexpr size_t kRecordBytes = 16 << 10;
// What one system call moves: records for a piece of a lane, with their headers and tags.
constexpr size_t kCipherBytes = (256 + 24) << 10;

class TlsStream {
 public:
  enum class Step { done, again, failed };

  // nullptr: OpenSSL has no memory. `target`: clients with the same one share sessions.
  static std::unique_ptr<TlsStream> make(int fd, TlsDialogue dialogue);
  ~TlsStream();
  TlsStream(const TlsStream&) = delete;
  TlsStream& operator=(const TlsStream&) = delete;

  // The owner's poller. `done`: what a client says first goes out with the end of the handshake.
  Step handshake(TlsProblem* problem);
  // After the handshake.
  const TlsPeer& peer() const { return peer_; }

  // As readv and sendmsg; EPROTO is explained by `failure`. `patient`: waits for who uses the stream just now; else EAGAIN.
  ssize_t receive(const iovec* vectors, size_t count);
  ssize_t send(const iovec* vectors, size_t count, bool more, bool patient);
  // Hands what waits to the kernel: false with EAGAIN or worse.
  bool flush();
  // Says that nothing follows, as far as the socket takes it.
  void farewell();
  // Ciphertext that the kernel has not taken: it goes before all else.
  bool waiting() const { return waiting_.load(std::memory_order_relaxed); }
  // There is something to receive that epoll does not know of.
  bool pending();
  Failure failure();

 private:
  struct Cipher {
    std::unique_ptr<uint8_t[]> bytes;
    size_t first = 0, end = 0;
    size_t size() const { return end - first; }
  };

  explicit TlsStream(int fd, TlsDialogue dialogue) : fd_(fd), dialogue_(std::move(dialogue)) {}
  static bio_st* bridge(TlsStream* stream);
  static int bridge_read(bio_st* bio, char* to, size_t wanted, size_t* count);
  static int bridge_write(bio_st* bio, const char* from, size_t offered, size_t* count);
  static long bridge_control(bio_st* bio, int what, long, void*);

  bool refill();
  bool flush_locked(bool more);
  size_t encrypt(const void* from, size_t bytes);
  ssize_t ended(int result);
  bool finish_handshake(TlsProblem* problem);
  void explain_failure(TlsProblem* problem);

  const int fd_;
  TlsDialogue dialogue_;
  TlsPeer peer_;

  // OpenSSL's object is for one thread at a time; a leaf among the locks. Guards the rest.
  std::mutex mutex_;
  ssl_st* ssl_ = nullptr;
  Cipher in_, out_;
  std::atomic<bool> waiting_{false};
  bool dry_ = false;       // the socket had no more in this turn
  bool ended_ = false;     // by the peer, without a word
  int broken_ = 0;         // errno of the socket
  bool over_ = false;      // nothing more can be received; why
  int over_errno_ = 0;     // (0: the end)
  bool spoke_ = false;     // something has come
  bool foreign_ = false;   // and it was no TLS
  uint32_t records_ = 0;   // sent under the current key
  Failure failure_;
};

}  // namespace kvferry
