#include "tls_stream.h"

#if KVFERRY_TLS
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "socket.h"

namespace kvferry {
namespace {

// Beyond the plaintext of a record, with room for what OpenSSL may put in front of it (a new key).
constexpr size_t kRecordRoom = kRecordBytes + 1024;
constexpr size_t kBuffersKept = 64;
constexpr uint8_t kAlertRecord = 21, kHandshakeRecord = 22;

// Buffers of kCipherBytes that were used before: fresh memory costs its first touch.
class CipherBuffers {
 public:
  std::unique_ptr<uint8_t[]> take() {
    std::lock_guard<std::mutex> lock(mutex_);
    if (free_.empty()) return std::make_unique_for_overwrite<uint8_t[]>(kCipherBytes);
    std::unique_ptr<uint8_t[]> buffer = std::move(free_.back());
    free_.pop_back();
    return buffer;
  }

  void give(std::unique_ptr<uint8_t[]> buffer) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (free_.size() < kBuffersKept) free_.push_back(std::move(buffer));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<uint8_t[]>> free_;
};

CipherBuffers& buffers() {
  static CipherBuffers all;
  return all;
}

BIO_METHOD* make_bridge_method(int (*read)(BIO*, char*, size_t, size_t*), int (*write)(BIO*, const char*, size_t, size_t*),
                               long (*control)(BIO*, int, long, void*)) {
  BIO_METHOD* method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "kvferry");
  if (method == nullptr) return nullptr;
  BIO_meth_set_read_ex(method, read);
  BIO_meth_set_write_ex(method, write);
  BIO_meth_set_ctrl(method, control);
  return method;
}

}  // namespace

std::unique_ptr<TlsStream> TlsStream::make(int fd, TlsDialogue dialogue) {
  std::unique_ptr<TlsStream> stream(new TlsStream(fd, std::move(dialogue)));
  const TlsDialogue& mine = stream->dialogue_;
  stream->ssl_ = SSL_new(mine.context->settings(mine.role));
  BIO* bio = stream->ssl_ == nullptr ? nullptr : bridge(stream.get());
  if (bio == nullptr) return nullptr;
  SSL_set_bio(stream->ssl_, bio, bio);
  SSL_set_app_data(stream->ssl_, &stream->dialogue_);
  if (mine.role == TlsRole::server) {
    SSL_set_accept_state(stream->ssl_);
    return stream;
  }
  SSL_set_connect_state(stream->ssl_);
  if (SSL_SESSION* session = mine.context->recall(mine.target)) {
    SSL_set_session(stream->ssl_, session);
    SSL_SESSION_free(session);
  }
  return stream;
}

TlsStream::~TlsStream() {
  if (ssl_ != nullptr) {
    // Else OpenSSL takes the end of the socket for a reason not to resume the session.
    SSL_set_shutdown(ssl_, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(ssl_);
  }
  for (Cipher* cipher : {&in_, &out_}) {
    if (cipher->bytes != nullptr) buffers().give(std::move(cipher->bytes));
  }
}

BIO* TlsStream::bridge(TlsStream* stream) {
  // One for the process, for good.
  static BIO_METHOD* const method = make_bridge_method(bridge_read, bridge_write, bridge_control);
  BIO* bio = method == nullptr ? nullptr : BIO_new(method);
  if (bio == nullptr) return nullptr;
  BIO_set_data(bio, stream);
  BIO_set_init(bio, 1);
  return bio;
}

int TlsStream::bridge_read(BIO* bio, char* to, size_t wanted, size_t* count) {
  TlsStream& stream = *static_cast<TlsStream*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  *count = 0;
  if (stream.in_.size() == 0 && !stream.refill()) {
    if (stream.dry_) BIO_set_retry_read(bio);
    return 0;
  }
  *count = std::min(wanted, stream.in_.size());
  memcpy(to, stream.in_.bytes.get() + stream.in_.first, *count);
  stream.in_.first += *count;
  return 1;
}

// False: nothing has come, because there is nothing now (dry_) or never will be.
bool TlsStream::refill() {
  if (dry_ || ended_ || broken_ != 0) return false;
  if (in_.bytes == nullptr) in_.bytes = buffers().take();
  in_.first = in_.end = 0;
  ssize_t count;
  do {
    count = recv(fd_, in_.bytes.get(), kCipherBytes, 0);
  } while (count < 0 && errno == EINTR);
  if (count > 0) {
    in_.end = size_t(count);
    // What is not there now is announced by epoll: asking again would only cost a call.
    dry_ = in_.end < kCipherBytes;
    if (!std::exchange(spoke_, true)) foreign_ = in_.bytes[0] != kHandshakeRecord && in_.bytes[0] != kAlertRecord;
    return true;
  }
  if (count == 0) ended_ = true;
  else if (errno == EAGAIN) dry_ = true;
  else broken_ = errno;
  return false;
}

// Never waits: what there is no room for is for later, and OpenSSL is asked for records only while there is.
int TlsStream::bridge_write(BIO* bio, const char* from, size_t offered, size_t* count) {
  TlsStream& stream = *static_cast<TlsStream*>(BIO_get_data(bio));
  Cipher& out = stream.out_;
  BIO_clear_retry_flags(bio);
  if (out.bytes == nullptr) out.bytes = buffers().take();
  *count = std::min(offered, kCipherBytes - out.end);
  memcpy(out.bytes.get() + out.end, from, *count);
  out.end += *count;
  stream.waiting_.store(true, std::memory_order_relaxed);
  if (*count > 0) return 1;
  BIO_set_retry_write(bio);
  return 0;
}

long TlsStream::bridge_control(BIO*, int what, long, void*) { return what == BIO_CTRL_FLUSH ? 1 : 0; }

TlsStream::Step TlsStream::handshake(TlsProblem* problem) {
  std::lock_guard<std::mutex> lock(mutex_);
  ERR_clear_error();
  dry_ = false;
  const int result = SSL_do_handshake(ssl_);
  const int error = SSL_get_error(ssl_, result);
  if (error != SSL_ERROR_NONE && error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
    explain_failure(problem);
    // The alert says why, if it still gets there.
    flush_locked(false);
    return Step::failed;
  }
  if (result == 1 && !finish_handshake(problem)) return Step::failed;
  // A client's last word waits for its first one.
  if (result == 1 && dialogue_.role == TlsRole::client) return Step::done;
  if (flush_locked(false) || errno == EAGAIN) return result == 1 ? Step::done : Step::again;
  broken_ = errno;
  explain_failure(problem);
  return Step::failed;
}

bool TlsStream::finish_handshake(TlsProblem* problem) {
  const unsigned char* protocol = nullptr;
  unsigned int protocol_bytes = 0;
  SSL_get0_alpn_selected(ssl_, &protocol, &protocol_bytes);
  if (protocol_bytes == 0) {
    *problem = {{Code::tls_failed, "the peer speaks TLS, and not kvferry over it"}, Refusal::handshake};
    return false;
  }
  // A session that was resumed has checked nothing by itself.
  X509* certificate = SSL_get0_peer_certificate(ssl_);
  dialogue_.problem = certificate == nullptr ? X509_V_ERR_UNSPECIFIED : dialogue_.judge(certificate, true);
  if (dialogue_.problem != 0) {
    dialogue_.shown = certificate == nullptr ? "" : identity_of(certificate);
    *problem = explain(dialogue_, 0, -1);
    return false;
  }
  peer_ = {identity_of(certificate), organization_of(certificate), SSL_get_version(ssl_), SSL_get_cipher_name(ssl_), SSL_session_reused(ssl_) == 1};
  return true;
}

void TlsStream::explain_failure(TlsProblem* problem) {
  const unsigned long error = ERR_peek_error();
  const int reason = ERR_GET_REASON(error);
  if (foreign_) {
    *problem = {{Code::tls_failed, "the peer does not speak TLS"}, Refusal::garbage};
  } else if (ended_ || broken_ != 0) {
    const std::string words = ended_ ? "closed by the peer in the TLS handshake" : describe_error(broken_);
    *problem = {{SSL_is_init_finished(ssl_) == 1 ? Code::connection_lost : Code::connect_failed, words}, Refusal::handshake};
  } else {
    *problem = explain(dialogue_, error, reason >= SSL_AD_REASON_OFFSET ? reason - SSL_AD_REASON_OFFSET : -1);
  }
  ERR_clear_error();
}

ssize_t TlsStream::receive(const iovec* vectors, size_t count) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (over_) return errno = over_errno_, over_errno_ == 0 ? 0 : -1;
  ERR_clear_error();
  dry_ = false;
  size_t total = 0;
  for (size_t index = 0; index < count; index++) {
    uint8_t* const to = static_cast<uint8_t*>(vectors[index].iov_base);
    for (size_t have = 0; have < vectors[index].iov_len;) {
      size_t got = 0;
      const int result = SSL_read_ex(ssl_, to + have, vectors[index].iov_len - have, &got);
      if (result != 1) {
        if (in_.bytes != nullptr && in_.size() == 0) buffers().give(std::move(in_.bytes));
        // Behind what has come: then the end of the stream, or what is wrong with it, is for the next call.
        const ssize_t end = ended(result);
        return total > 0 ? ssize_t(total) : end;
      }
      have += got;
      total += got;
    }
  }
  return ssize_t(total);
}

// What a read that gave nothing comes to.
ssize_t TlsStream::ended(int result) {
  const int error = SSL_get_error(ssl_, result);
  if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
    errno = EAGAIN;
    return -1;
  }
  over_ = true;
  if (error == SSL_ERROR_ZERO_RETURN || ended_) return 0;
  over_errno_ = broken_ != 0 ? broken_ : EPROTO;
  TlsProblem problem;
  explain_failure(&problem);
  failure_ = problem.failure;
  flush_locked(false);
  return errno = over_errno_, -1;
}

ssize_t TlsStream::send(const iovec* vectors, size_t count, bool more, bool patient) {
  std::unique_lock<std::mutex> lock(mutex_, std::defer_lock);
  if (patient) {
    lock.lock();
  } else if (!lock.try_lock()) {
    errno = EAGAIN;
    return -1;
  }
  if (out_.size() > 0 && !flush_locked(more)) return -1;
  ERR_clear_error();
  size_t taken = 0;
  uint8_t gathered[kRecordBytes];
  size_t index = 0, used = 0;  // of vectors, and bytes of the first that is left
  while (index < count && kCipherBytes - out_.end >= kRecordRoom) {
    const uint8_t* from = static_cast<const uint8_t*>(vectors[index].iov_base) + used;
    size_t bytes = vectors[index].iov_len - used;
    if (bytes == 0) {
      index += 1;
      used = 0;
      continue;
    }
    if (bytes >= kRecordBytes) {
      bytes = encrypt(from, kRecordBytes);
      used += bytes;
    } else {
      // Neighbours share a record; one that is alone need not be copied.
      size_t end = index + 1;
      for (; end < count && bytes + vectors[end].iov_len < kRecordBytes; end++) {
        if (end == index + 1) memcpy(gathered, from, bytes);
        memcpy(gathered + bytes, vectors[end].iov_base, vectors[end].iov_len);
        bytes += vectors[end].iov_len;
      }
      bytes = encrypt(end == index + 1 ? from : gathered, bytes);
      index = end;
      used = 0;
    }
    if (bytes == 0) {
      errno = EPROTO;
      return -1;
    }
    taken += bytes;
  }
  if (!flush_locked(more) && errno != EAGAIN) return -1;
  return ssize_t(taken);
}

// One record; 0: OpenSSL failed.
size_t TlsStream::encrypt(const void* from, size_t bytes) {
  if (records_ >= dialogue_.context->records_per_key) {
    SSL_key_update(ssl_, SSL_KEY_UPDATE_NOT_REQUESTED);
    records_ = 0;
  }
  records_ += 1;
  size_t written = 0;
  if (SSL_write_ex(ssl_, from, bytes, &written) == 1) return written;
  TlsProblem problem;
  explain_failure(&problem);
  failure_ = problem.failure;
  return 0;
}

bool TlsStream::flush() {
  std::lock_guard<std::mutex> lock(mutex_);
  return flush_locked(false);
}

bool TlsStream::flush_locked(bool more) {
  while (out_.size() > 0) {
    const ssize_t count = ::send(fd_, out_.bytes.get() + out_.first, out_.size(), MSG_NOSIGNAL | (more ? MSG_MORE : 0));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return false;
    out_.first += size_t(count);
  }
  if (out_.bytes != nullptr) buffers().give(std::move(out_.bytes));
  out_.first = out_.end = 0;
  waiting_.store(false, std::memory_order_relaxed);
  return true;
}

void TlsStream::farewell() {
  std::lock_guard<std::mutex> lock(mutex_);
  ERR_clear_error();
  SSL_shutdown(ssl_);
  ERR_clear_error();
  flush_locked(false);
}

bool TlsStream::pending() {
  std::lock_guard<std::mutex> lock(mutex_);
  return over_ || in_.size() > 0 || SSL_pending(ssl_) > 0;
}

Failure TlsStream::failure() {
  std::lock_guard<std::mutex> lock(mutex_);
  return failure_;
}

}  // namespace kvferry
#endif
