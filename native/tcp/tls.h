// TLS 1.3 with certificates on both sides, by the OpenSSL that Node exports: what this node shows, whom it believes, and sessions to resume.
// OpenSSL's types stay inside tls*.cpp; without its headers tls_absent.cpp stands for all of them.
#pragma once
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "../core/codes.h"
#include "../core/refusals.h"
#include "../core/tls.h"

struct ssl_ctx_st;
struct ssl_session_st;
struct x509_st;

namespace kvferry {

enum class TlsRole { client, server };

// Why a handshake failed, for whoever dialled (`failure`) and for whoever listened (`reason`).
struct TlsProblem {
  Failure failure;
  Refusal reason = Refusal::handshake;
};

// What OpenSSL is called in this process; "" and why if there is none that can be used.
std::string tls_version(std::string* problem);

class TlsContext {
 public:
  // nullptr and why: invalid_argument, unsupported.
  static std::shared_ptr<TlsContext> make(const TlsMaterial& material, uint32_t records_per_key, Failure* failure);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  ssl_ctx_st* settings(TlsRole role) const { return role == TlsRole::client ? client_ : server_; }
  bool denies(x509_st* certificate) const;
  // Client's sessions, the latest of each target; any thread. `recall` gives one that is the caller's to free, or nullptr.
  void keep(const std::string& target, ssl_session_st* session);
  ssl_session_st* recall(const std::string& target);

  const uint32_t records_per_key;

 private:
  explicit TlsContext(uint32_t records) : records_per_key(records) {}

  ssl_ctx_st* client_ = nullptr;
  ssl_ctx_st* server_ = nullptr;
  std::unordered_set<std::string> denied_;
  std::mutex sessions_mutex_;
  // As bytes: OpenSSL takes an object that has been used once for spent, and lanes that are opened together use the same. The oldest first.
  std::list<std::pair<std::string, std::vector<unsigned char>>> sessions_;
};

// One handshake, as OpenSSL's callbacks see it.
struct TlsDialogue {
  std::shared_ptr<TlsContext> context;
  TlsRole role;
  // Client: whose certificate it must be, and the name under which its session is kept.
  std::string expected, target;
  // What was wrong with the peer's certificate, by OpenSSL's number (0: nothing), and whose it was.
  int problem = 0;
  std::string shown;
  // Of the connection's two directions, when the handshake has come so far.
  std::string client_secret, server_secret;

  // Beyond what OpenSSL checks: the number of what is wrong with it, or 0.
  int judge(x509_st* certificate, bool is_leaf);
};

// tls_names.cpp
std::string identity_of(x509_st* certificate);
std::string organization_of(x509_st* certificate);
// Whether it is the certificate of `expected`: its identity, one of its URIs, or a host name or an address that it is valid for.
bool is_named(x509_st* certificate, const std::string& expected);
// What a failed handshake comes to. `alert`: what the peer said, or -1.
TlsProblem explain(const TlsDialogue& dialogue, unsigned long error, int alert);

}  // namespace kvferry
