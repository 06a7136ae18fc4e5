// A socket's bytes under TLS. OpenSSL makes the handshake (tls_handshake.cpp); what flows after it is made into records and out of them here, straight
// from and to where plaintext lies, many records to a system call. Sending and receiving share nothing: each is its owner's, on one thread at a time.
#pragma once
#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "tls.h"
#include "tls_record.h"

struct bio_st;
struct ssl_st;

namespace kvferry {

// What one system call moves: records for a piece of a lane, with their heads and tags.
constexpr size_t kCipherBytes = (256 + 24) << 10;

// Ciphertext on its way; an idle stream has none. The buffers are shared by all streams.
struct CipherBuffer {
  std::unique_ptr<uint8_t[]> bytes;
  size_t first = 0, end = 0;

  ~CipherBuffer() { release(); }
  size_t size() const { return end - first; }
  uint8_t* at(size_t offset) const { return bytes.get() + offset; }
  void claim();
  // Only what is empty is given back, unless the stream ends.
  void release();
};

class TlsStream {
 public:
  enum class Step { done, again, failed };

  // nullptr: OpenSSL has no memory.
  static std::unique_ptr<TlsStream> make(int fd, TlsDialogue dialogue);
  ~TlsStream();
  TlsStream(const TlsStream&) = delete;
  TlsStream& operator=(const TlsStream&) = delete;

  // Before anything else. `done`: what a client says first goes out with the end of the handshake.
  Step handshake(TlsProblem* problem);
  const TlsPeer& peer() const { return peer_; }

  // As readv; EPROTO is explained by `failure`. Nothing is counted that is not authentic, but memory beyond that may have been written to.
  ssize_t receive(const iovec* vectors, size_t count);
  // There is something to receive that epoll does not know of.
  bool pending() const;
  const Failure& failure() const { return failure_; }

  // As sendmsg: what was taken and the kernel did not want waits, and goes before all else.
  ssize_t send(const iovec* vectors, size_t count, bool more);
  bool waiting() const { return out_.size() > 0; }
  // False with EAGAIN or worse: some of it still waits.
  bool flush(bool more = false);
  // Says that nothing follows, as far as the socket takes it.
  void farewell();

 private:
  struct Room;

  explicit TlsStream(int fd, TlsDialogue dialogue) : fd_(fd), dialogue_(std::move(dialogue)) {}
  static bio_st* bridge(TlsStream* stream);
  static int bridge_read(bio_st* bio, char* to, size_t wanted, size_t* count);
  static int bridge_write(bio_st* bio, const char* from, size_t offered, size_t* count);
  static long bridge_control(bio_st* bio, int what, long, void*);

  bool finish_handshake(size_t flight, TlsProblem* problem);
  bool take_over(size_t flight);
  void explain_failure(TlsProblem* problem);
  // A record that only OpenSSL can read: a ticket.
  void feed(const uint8_t* record, size_t bytes);
  void drop_openssl();
  void forget_secrets();

  bool refill();
  // Bytes of the record at the front of in_; 0: it is not all there.
  size_t record_bytes() const;
  size_t open_record(Room& room);
  size_t open_apart(size_t bytes);
  void handle_other(ContentType type, const uint8_t* content, size_t bytes, const uint8_t* record, size_t record_bytes);
  void handle_handshake(const uint8_t* message, size_t bytes, const uint8_t* record, size_t record_bytes);
  void fail(const std::string& detail);

  bool seal_record(ContentType type, const iovec*& vector, size_t& used, size_t bytes);
  bool seal_message(ContentType type, const uint8_t* message, size_t bytes);
  bool change_key();

  const int fd_;
  TlsDialogue dialogue_;
  TlsPeer peer_;
  ssl_st* ssl_ = nullptr;  // gone when it is not needed any more
  bool is_established_ = false;

  // Receiving.
  RecordKey opening_;
  CipherBuffer in_;
  size_t plain_first_ = 0, plain_end_ = 0;  // opened in in_, because there was no room for it
  size_t plain_next_ = 0;                   // where in_ goes on behind that record
  std::unique_ptr<uint8_t[]> copy_;         // of a record, while OpenSSL may have to see it
  const uint8_t* fed_ = nullptr;
  size_t fed_bytes_ = 0;
  size_t message_left_ = 0;  // of a ticket that goes on in the next record
  uint32_t idle_records_ = 0;
  bool dry_ = false;         // the socket had no more in this turn
  bool spoke_ = false;       // something has come
  bool foreign_ = false;     // and it was no TLS
  bool ended_ = false;       // by the peer, without a word
  int broken_ = 0;           // errno of the socket
  bool over_ = false;        // nothing more can be received; why
  int over_errno_ = 0;       // (0: the end)
  Failure failure_;

  // Sending.
  RecordKey sealing_;
  CipherBuffer out_;
  bool held_ = false;                   // the end of the handshake goes out with what is sent first
  std::atomic<bool> key_asked_{false};  // the peer wants us to change ours
};

}  // namespace kvferry
