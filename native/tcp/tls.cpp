#include "tls.h"

#if KVFERRY_TLS
#include <dlfcn.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <utility>
#include <vector>

namespace kvferry {
namespace {

constexpr unsigned char kProtocol[] = "\x09kvferry/1";
constexpr size_t kProtocolBytes = sizeof kProtocol - 1;
// AES-128 first: as strong as the exchange of keys around it, and a tenth faster than AES-256.
constexpr char kCiphers[] = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
constexpr long kTicketSeconds = 3'600;
constexpr size_t kSessionsKept = 256;

struct FreeBio {
  void operator()(BIO* bio) const { BIO_free(bio); }
};
struct FreeCertificate {
  void operator()(X509* certificate) const { X509_free(certificate); }
};
struct FreeKey {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
using Bio = std::unique_ptr<BIO, FreeBio>;
using Certificate = std::unique_ptr<X509, FreeCertificate>;
using Key = std::unique_ptr<EVP_PKEY, FreeKey>;

TlsDialogue& dialogue_of(const SSL* ssl) { return *static_cast<TlsDialogue*>(SSL_get_app_data(ssl)); }

Failure wrong(const std::string& what) {
  const char* reason = ERR_reason_error_string(ERR_peek_last_error());
  ERR_clear_error();
  return {Code::invalid_argument, reason == nullptr ? what : what + ": " + reason};
}

// Instead of a question on the terminal.
int no_password(char*, int, int, void*) { return -1; }

std::vector<Certificate> certificates_of(const std::string& pem) {
  std::vector<Certificate> found;
  const Bio bio(BIO_new_mem_buf(pem.data(), int(pem.size())));
  while (X509* certificate = PEM_read_bio_X509(bio.get(), nullptr, no_password, nullptr)) found.emplace_back(certificate);
  // Only the end of the text may end the list.
  if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) return {};
  ERR_clear_error();
  return found;
}

std::string hexadecimal(const unsigned char* bytes, size_t count) {
  constexpr char digits[] = "0123456789abcdef";
  std::string text;
  for (size_t at = 0; at < count; at++) text.append({digits[bytes[at] >> 4], digits[bytes[at] & 15]});
  return text;
}

std::string serial_of(X509* certificate) {
  const ASN1_INTEGER* serial = X509_get0_serialNumber(certificate);
  const std::string text = hexadecimal(ASN1_STRING_get0_data(serial), size_t(ASN1_STRING_length(serial)));
  return text.substr(std::min(text.find_first_not_of('0'), text.size()));
}

bool is_past(const ASN1_TIME* time) { return X509_cmp_current_time(time) <= 0; }

// Every certificate of a chain comes here, from the authority down, once OpenSSL has found it right or wrong.
int verify(int right, X509_STORE_CTX* store) {
  const SSL* ssl = static_cast<SSL*>(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
  TlsDialogue& dialogue = dialogue_of(ssl);
  X509* certificate = X509_STORE_CTX_get_current_cert(store);
  if (right == 1) {
    const int problem = dialogue.judge(certificate, X509_STORE_CTX_get_error_depth(store) == 0);
    if (problem == X509_V_OK) return 1;
    X509_STORE_CTX_set_error(store, problem);
  }
  dialogue.problem = X509_STORE_CTX_get_error(store);
  dialogue.shown = certificate == nullptr ? "" : identity_of(certificate);
  return 0;
}

int select_protocol(SSL*, const unsigned char** out, unsigned char* out_bytes, const unsigned char* in, unsigned int in_bytes, void*) {
  unsigned char* chosen = nullptr;
  if (SSL_select_next_proto(&chosen, out_bytes, kProtocol, kProtocolBytes, in, in_bytes) != OPENSSL_NPN_NEGOTIATED) return SSL_TLSEXT_ERR_ALERT_FATAL;
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

// A ticket is only as good as the certificate that was shown for it: else the handshake goes the whole way, and says what is wrong.
SSL_TICKET_RETURN take_ticket(SSL* ssl, SSL_SESSION* session, const unsigned char*, size_t, SSL_TICKET_STATUS status, void*) {
  if (status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW) return SSL_TICKET_RETURN_IGNORE_RENEW;
  X509* certificate = SSL_SESSION_get0_peer(session);
  const bool good = certificate != nullptr && !is_past(X509_get0_notAfter(certificate)) && !dialogue_of(ssl).context->denies(certificate);
  return good ? SSL_TICKET_RETURN_USE_RENEW : SSL_TICKET_RETURN_IGNORE_RENEW;
}

int keep_session(SSL* ssl, SSL_SESSION* session) {
  TlsDialogue& dialogue = dialogue_of(ssl);
  dialogue.context->keep(dialogue.target, session);
  // The object stays OpenSSL's.
  return 0;
}

int digit_of(char character) { return character <= '9' ? character - '0' : (character | 32) - 'a' + 10; }

// One line of a key log: label, the client's random, the secret. What is no traffic secret is not kept.
void keep_secret(const SSL* ssl, const char* line) {
  TlsDialogue& dialogue = dialogue_of(ssl);
  for (const auto& [label, secret] : {std::pair("CLIENT_TRAFFIC_SECRET_0 ", &dialogue.client_secret), std::pair("SERVER_TRAFFIC_SECRET_0 ", &dialogue.server_secret)}) {
    if (strncmp(line, label, strlen(label)) != 0) continue;
    const char* digits = strrchr(line, ' ') + 1;
    // Of its whole size at once: a string that grows leaves copies behind.
    secret->assign(strlen(digits) / 2, 0);
    secret->clear();
    for (; isxdigit(digits[0]) && isxdigit(digits[1]); digits += 2) secret->push_back(char(digit_of(digits[0]) * 16 + digit_of(digits[1])));
  }
}

Failure set_certificates(SSL_CTX* settings, const TlsMaterial& material) {
  std::vector<Certificate> chain = certificates_of(material.certificate);
  if (chain.empty()) return wrong("the certificate is no PEM certificate");
  if (SSL_CTX_use_certificate(settings, chain[0].get()) != 1) return wrong("the certificate cannot be used");
  for (size_t index = 1; index < chain.size(); index++) {
    if (SSL_CTX_add1_chain_cert(settings, chain[index].get()) != 1) return wrong("the certificate's chain cannot be used");
  }
  const Bio bio(BIO_new_mem_buf(material.key.data(), int(material.key.size())));
  const Key key(PEM_read_bio_PrivateKey(bio.get(), nullptr, no_password, nullptr));
  if (key == nullptr) return wrong("the key is no PEM key, or needs a password");
  if (SSL_CTX_use_PrivateKey(settings, key.get()) != 1 || SSL_CTX_check_private_key(settings) != 1) return wrong("the key is not the certificate's");
  const std::vector<Certificate> authorities = certificates_of(material.authorities);
  if (authorities.empty()) return wrong("the authorities are no PEM certificates");
  for (const Certificate& authority : authorities) {
    if (X509_STORE_add_cert(SSL_CTX_get_cert_store(settings), authority.get()) != 1) return wrong("an authority cannot be used");
  }
  return {};
}

// nullptr and why.
SSL_CTX* make_settings(TlsRole role, const TlsMaterial& material, Failure* failure) {
  SSL_CTX* settings = SSL_CTX_new(role == TlsRole::client ? TLS_client_method() : TLS_server_method());
  if (settings == nullptr) return *failure = wrong("OpenSSL gives no context"), nullptr;
  bool right = SSL_CTX_set_min_proto_version(settings, TLS1_3_VERSION) == 1 && SSL_CTX_set_max_proto_version(settings, TLS1_3_VERSION) == 1;
  right = right && SSL_CTX_set_ciphersuites(settings, kCiphers) == 1;
  // Zero is success here, unlike anywhere else.
  right = right && SSL_CTX_set_alpn_protos(settings, kProtocol, kProtocolBytes) == 0;
  right = right && SSL_CTX_set_session_id_context(settings, kProtocol, kProtocolBytes) == 1 && SSL_CTX_set_num_tickets(settings, 1) == 1;
  SSL_CTX_set_options(settings, SSL_OP_CIPHER_SERVER_PREFERENCE);
  // For as long as a client waits for tickets.
  SSL_CTX_set_mode(settings, SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_verify(settings, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, verify);
  SSL_CTX_set_keylog_callback(settings, keep_secret);
  SSL_CTX_set_alpn_select_cb(settings, select_protocol, nullptr);
  SSL_CTX_set_timeout(settings, kTicketSeconds);
  if (role == TlsRole::client) {
    SSL_CTX_set_session_cache_mode(settings, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(settings, keep_session);
  } else {
    SSL_CTX_set_session_cache_mode(settings, SSL_SESS_CACHE_OFF);
    right = right && SSL_CTX_set_session_ticket_cb(settings, nullptr, take_ticket, nullptr) == 1;
  }
  *failure = right ? set_certificates(settings, material) : wrong("OpenSSL takes no TLS 1.3");
  if (!*failure) return settings;
  SSL_CTX_free(settings);
  return nullptr;
}

}  // namespace

std::string tls_version(std::string* problem) {
  // Node may have been built without OpenSSL, or with something that resembles it. Nothing here is bound before it is called.
  for (const char* name : {"OpenSSL_version", "SSL_CTX_set_ciphersuites", "SSL_get0_peer_certificate", "SSL_key_update", "BIO_meth_new", "X509_check_host"}) {
    if (dlsym(RTLD_DEFAULT, name) != nullptr) continue;
    *problem = std::string("this Node has no OpenSSL that an addon can use (") + name + ")";
    return "";
  }
  return OpenSSL_version(OPENSSL_VERSION);
}

std::shared_ptr<TlsContext> TlsContext::make(const TlsMaterial& material, uint32_t records_per_key, Failure* failure) {
  std::string problem;
  if (tls_version(&problem).empty()) return *failure = {Code::unsupported, problem}, nullptr;
  ERR_clear_error();
  std::shared_ptr<TlsContext> context(new TlsContext(records_per_key));
  context->denied_.insert(material.denied.begin(), material.denied.end());
  context->client_ = make_settings(TlsRole::client, material, failure);
  if (context->client_ == nullptr) return nullptr;
  context->server_ = make_settings(TlsRole::server, material, failure);
  return context->server_ == nullptr ? nullptr : context;
}

TlsContext::~TlsContext() {
  if (client_ != nullptr) SSL_CTX_free(client_);
  if (server_ != nullptr) SSL_CTX_free(server_);
}

bool TlsContext::denies(X509* certificate) const {
  if (denied_.empty()) return false;
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int bytes = 0;
  // Who cannot be compared with the list is not let in.
  if (X509_digest(certificate, EVP_sha256(), digest, &bytes) != 1) return true;
  return denied_.contains(hexadecimal(digest, bytes)) || denied_.contains(serial_of(certificate));
}

void TlsContext::keep(const std::string& target, SSL_SESSION* session) {
  const int bytes = i2d_SSL_SESSION(session, nullptr);
  if (bytes <= 0) return;
  std::vector<unsigned char> written(size_t(bytes), 0);
  unsigned char* to = written.data();
  i2d_SSL_SESSION(session, &to);
  std::lock_guard<std::mutex> lock(sessions_mutex_);
  sessions_.remove_if([&](const auto& entry) { return entry.first == target; });
  if (sessions_.size() >= kSessionsKept) sessions_.pop_front();
  sessions_.emplace_back(target, std::move(written));
}

SSL_SESSION* TlsContext::recall(const std::string& target) {
  SSL_SESSION* session = nullptr;
  {
    std::lock_guard<std::mutex> lock(sessions_mutex_);
    const auto known = std::find_if(sessions_.begin(), sessions_.end(), [&](const auto& entry) { return entry.first == target; });
    if (known == sessions_.end()) return nullptr;
    const unsigned char* from = known->second.data();
    session = d2i_SSL_SESSION(nullptr, &from, long(known->second.size()));
  }
  X509* certificate = session == nullptr ? nullptr : SSL_SESSION_get0_peer(session);
  if (certificate != nullptr && !is_past(X509_get0_notAfter(certificate))) return session;
  if (session != nullptr) SSL_SESSION_free(session);
  return nullptr;
}

int TlsDialogue::judge(X509* certificate, bool is_leaf) {
  if (context->denies(certificate)) return X509_V_ERR_CERT_REVOKED;
  if (is_leaf && role == TlsRole::client && !is_named(certificate, expected)) return X509_V_ERR_HOSTNAME_MISMATCH;
  return X509_V_OK;
}

}  // namespace kvferry
#endif
