#include "tls_record.h"

#if KVFERRY_TLS
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/objects.h>
#include <openssl/ssl.h>

#include <cstring>

namespace kvferry {
namespace {

constexpr size_t kKeyBytesMax = 32;

}  // namespace

RecordKey::~RecordKey() {
  if (context_ == nullptr) return;
  EVP_CIPHER_CTX_free(context_);
  OPENSSL_cleanse(secret_.data(), secret_.size());
  OPENSSL_cleanse(mask_.data(), mask_.size());
}

bool RecordKey::begin(const SSL_CIPHER* suite, const std::string& secret, bool sealing, uint64_t sequence) {
  digest_ = suite == nullptr ? nullptr : SSL_CIPHER_get_handshake_digest(suite);
  if (digest_ == nullptr || secret.size() != size_t(EVP_MD_get_size(digest_)) || secret.size() > secret_.size()) return false;
  cipher_ = SSL_CIPHER_get_cipher_nid(suite);
  sealing_ = sealing;
  secret_bytes_ = secret.size();
  memcpy(secret_.data(), secret.data(), secret_bytes_);
  if (context_ == nullptr) context_ = EVP_CIPHER_CTX_new();
  if (context_ == nullptr || !derive()) return false;
  sequence_ = sequence;
  return true;
}

bool RecordKey::advance() {
  std::array<uint8_t, 64> next;
  if (!expand("traffic upd", next.data(), secret_bytes_)) return false;
  memcpy(secret_.data(), next.data(), secret_bytes_);
  OPENSSL_cleanse(next.data(), next.size());
  sequence_ = 0;
  return derive();
}

bool RecordKey::derive() {
  const EVP_CIPHER* cipher = EVP_get_cipherbyname(OBJ_nid2sn(cipher_));
  if (cipher == nullptr || size_t(EVP_CIPHER_get_key_length(cipher)) > kKeyBytesMax || size_t(EVP_CIPHER_get_iv_length(cipher)) != mask_.size()) return false;
  uint8_t key[kKeyBytesMax];
  const bool right = expand("key", key, size_t(EVP_CIPHER_get_key_length(cipher))) && expand("iv", mask_.data(), mask_.size()) &&
                     EVP_CipherInit_ex(context_, cipher, nullptr, key, nullptr, sealing_ ? 1 : 0) == 1;
  OPENSSL_cleanse(key, sizeof key);
  return right;
}

// HKDF-Expand-Label without a context. What is asked for is no longer than the digest, so that one block of HKDF is all of it.
bool RecordKey::expand(const char* label, uint8_t* to, size_t bytes) const {
  uint8_t info[64];
  const size_t label_bytes = strlen(label);
  size_t at = 0;
  info[at++] = 0;
  info[at++] = uint8_t(bytes);
  info[at++] = uint8_t(6 + label_bytes);
  memcpy(info + at, "tls13 ", 6);
  memcpy(info + at + 6, label, label_bytes);
  at += 6 + label_bytes;
  info[at++] = 0;
  info[at++] = 1;
  uint8_t block[EVP_MAX_MD_SIZE];
  unsigned int block_bytes = 0;
  if (HMAC(digest_, secret_.data(), int(secret_bytes_), info, at, block, &block_bytes) == nullptr || block_bytes < bytes) return false;
  memcpy(to, block, bytes);
  OPENSSL_cleanse(block, sizeof block);
  return true;
}

bool RecordKey::start(const uint8_t* head) {
  std::array<uint8_t, 12> nonce = mask_;
  for (size_t at = 0; at < 8; at++) nonce[nonce.size() - 1 - at] ^= uint8_t(sequence_ >> (8 * at));
  int count = 0;
  return EVP_CipherInit_ex(context_, nullptr, nullptr, nullptr, nonce.data(), -1) == 1 &&
         EVP_CipherUpdate(context_, nullptr, &count, head, int(kRecordHeadBytes)) == 1;
}

bool RecordKey::apply(uint8_t* to, const uint8_t* from, size_t bytes) {
  int count = 0;
  return EVP_CipherUpdate(context_, to, &count, from, int(bytes)) == 1 && count == int(bytes);
}

bool RecordKey::seal(uint8_t* tag) {
  int count = 0;
  sequence_ += 1;
  return EVP_CipherFinal_ex(context_, tag, &count) == 1 && EVP_CIPHER_CTX_ctrl(context_, EVP_CTRL_AEAD_GET_TAG, int(kTagBytes), tag) == 1;
}

bool RecordKey::open(const uint8_t* tag) {
  int count = 0;
  uint8_t rest[kTagBytes];
  sequence_ += 1;
  return EVP_CIPHER_CTX_ctrl(context_, EVP_CTRL_AEAD_SET_TAG, int(kTagBytes), const_cast<uint8_t*>(tag)) == 1 &&
         EVP_CipherFinal_ex(context_, rest, &count) == 1;
}

}  // namespace kvferry
#endif
