// The handshake of a TLS stream, and the end of OpenSSL's part in it: its traffic secrets, as it tells them to a key log, become the keys of our records.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "socket.h"
#include "tls_stream.h"

#if KVFERRY_TLS
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

namespace kvferry {
namespace {

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
  drop_openssl();
  forget_secrets();
}

// They are the keys' from the end of the handshake on; one that failed leaves them, too.
void TlsStream::forget_secrets() {
  for (std::string* secret : {&dialogue_.client_secret, &dialogue_.server_secret}) OPENSSL_cleanse(secret->data(), secret->size());
}

void TlsStream::drop_openssl() {
  if (ssl_ == nullptr) return;
  // Else OpenSSL takes the end of the socket for a reason not to resume the session.
  SSL_set_shutdown(ssl_, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
  SSL_free(std::exchange(ssl_, nullptr));
  copy_ = nullptr;
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

// OpenSSL asks for the head of a record and for its body, and for no byte beyond: what is behind the handshake stays ours.
int TlsStream::bridge_read(BIO* bio, char* to, size_t wanted, size_t* count) {
  TlsStream& stream = *static_cast<TlsStream*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  *count = 0;
  if (stream.is_established_) {
    *count = std::min(wanted, stream.fed_bytes_);
    memcpy(to, stream.fed_, *count);
    stream.fed_ += *count;
    stream.fed_bytes_ -= *count;
  } else if (stream.in_.size() > 0 || stream.refill()) {
    *count = std::min(wanted, stream.in_.size());
    memcpy(to, stream.in_.at(stream.in_.first), *count);
    stream.in_.first += *count;
  }
  if (*count > 0) return 1;
  if (stream.is_established_ || stream.dry_) BIO_set_retry_read(bio);
  return 0;
}

// Never waits: what there is no room for is for later.
int TlsStream::bridge_write(BIO* bio, const char* from, size_t offered, size_t* count) {
  TlsStream& stream = *static_cast<TlsStream*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  *count = offered;
  // After the handshake OpenSSL only reads; whatever it had to say would be sealed with a number that we have used.
  if (stream.is_established_) return 1;
  CipherBuffer& out = stream.out_;
  out.claim();
  *count = std::min(offered, kCipherBytes - out.end);
  memcpy(out.at(out.end), from, *count);
  out.end += *count;
  if (*count > 0) return 1;
  BIO_set_retry_write(bio);
  return 0;
}

long TlsStream::bridge_control(BIO*, int what, long, void*) { return what == BIO_CTRL_FLUSH ? 1 : 0; }

TlsStream::Step TlsStream::handshake(TlsProblem* problem) {
  ERR_clear_error();
  dry_ = false;
  const size_t flight = out_.end;
  const int result = SSL_do_handshake(ssl_);
  // Who stops in the middle holds no buffer meanwhile.
  if (in_.size() == 0) in_.release();
  const int error = SSL_get_error(ssl_, result);
  if (error != SSL_ERROR_NONE && error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
    explain_failure(problem);
    // The alert says why, if it still gets there.
    flush();
    return Step::failed;
  }
  if (result == 1 && !finish_handshake(flight, problem)) return Step::failed;
  if (result == 1 && dialogue_.role == TlsRole::client) {
    held_ = true;
    return Step::done;
  }
  if (flush() || errno == EAGAIN) return result == 1 ? Step::done : Step::again;
  broken_ = errno;
  explain_failure(problem);
  return Step::failed;
}

bool TlsStream::finish_handshake(size_t flight, TlsProblem* problem) {
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
  if (take_over(flight)) return true;
  *problem = {{Code::tls_failed, "OpenSSL gives no keys"}, Refusal::handshake};
  return false;
}

// `flight`: where in out_ the last part of the handshake begins.
bool TlsStream::take_over(size_t flight) {
  const bool is_client = dialogue_.role == TlsRole::client;
  // A server that has read the client's last word sends a ticket at once, with the key that is ours from here on.
  uint64_t tickets = 0;
  for (size_t at = flight; !is_client && at < out_.end; tickets++) {
    const uint8_t* head = out_.at(at);
    if (out_.end - at < kRecordHeadBytes || head[0] != uint8_t(ContentType::data)) return false;
    at += kRecordHeadBytes + size_t(head[3]) * 256 + head[4];
    if (at > out_.end) return false;
  }
  const SSL_CIPHER* suite = SSL_get_current_cipher(ssl_);
  std::string& client = dialogue_.client_secret;
  std::string& server = dialogue_.server_secret;
  const bool right = sealing_.begin(suite, is_client ? client : server, true, tickets) && opening_.begin(suite, is_client ? server : client, false, 0);
  forget_secrets();
  is_established_ = right;
  // Only a client has something to hear that OpenSSL must read: tickets.
  if (!is_client) drop_openssl();
  return right;
}

void TlsStream::feed(const uint8_t* record, size_t bytes) {
  ERR_clear_error();
  fed_ = record;
  fed_bytes_ = bytes;
  uint8_t none;
  size_t count = 0;
  const int result = SSL_read_ex(ssl_, &none, 1, &count);
  if (result == 1 || SSL_get_error(ssl_, result) != SSL_ERROR_WANT_READ) drop_openssl();
  ERR_clear_error();
}

void TlsStream::explain_failure(TlsProblem* problem) {
  const unsigned long error = ERR_peek_error();
  const int reason = ERR_GET_REASON(error);
  if (foreign_) {
    *problem = {{Code::tls_failed, "the peer does not speak TLS"}, Refusal::garbage};
  } else if (ended_ || broken_ != 0) {
    *problem = {{Code::connect_failed, ended_ ? "closed by the peer in the TLS handshake" : describe_error(broken_)}, Refusal::handshake};
  } else {
    *problem = explain(dialogue_, error, reason >= SSL_AD_REASON_OFFSET ? reason - SSL_AD_REASON_OFFSET : -1);
  }
  ERR_clear_error();
}

}  // namespace kvferry
#endif
