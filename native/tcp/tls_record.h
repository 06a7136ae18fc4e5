// One direction's key of TLS 1.3 and what it does to records (RFC 8446, 5.2, 5.3, 7.2). The ciphers are OpenSSL's; bytes are enciphered on their way from
// where they lie to where they go. `start`, any number of `apply`, then `seal` or `open`, for each record.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

struct evp_cipher_ctx_st;
struct evp_md_st;
struct ssl_cipher_st;

namespace kvferry {

constexpr size_t kRecordBytes = 16 << 10;  // of content, at most
constexpr size_t kRecordHeadBytes = 5;
constexpr size_t kTagBytes = 16;
// What a record has behind its content: the content's type, and the tag.
constexpr size_t kRecordTailBytes = 1 + kTagBytes;
// Of a record behind its head: a peer may pad.
constexpr size_t kRecordBodyMax = kRecordBytes + 256;

enum class ContentType : uint8_t { alert = 21, handshake = 22, data = 23 };

class RecordKey {
 public:
  RecordKey() = default;
  ~RecordKey();
  RecordKey(const RecordKey&) = delete;
  RecordKey& operator=(const RecordKey&) = delete;

  // From the traffic secret of a handshake; `sequence`: of records that others have made with it. False: OpenSSL does not.
  bool begin(const ssl_cipher_st* suite, const std::string& secret, bool sealing, uint64_t sequence);
  // Goes over to the key that follows.
  bool advance();
  // Records under this key so far.
  uint64_t sequence() const { return sequence_; }

  // `head`: of the record, which is authenticated with it.
  bool start(const uint8_t* head);
  // `to` may be `from`.
  bool apply(uint8_t* to, const uint8_t* from, size_t bytes);
  bool seal(uint8_t* tag);
  // False: it is not what the peer sent.
  bool open(const uint8_t* tag);
  // The record that was opened last is to be opened once more.
  void repeat() { sequence_ -= 1; }

 private:
  bool derive();
  bool expand(const char* label, uint8_t* to, size_t bytes) const;

  evp_cipher_ctx_st* context_ = nullptr;
  const evp_md_st* digest_ = nullptr;
  int cipher_ = 0;
  bool sealing_ = false;
  std::array<uint8_t, 64> secret_ = {};
  size_t secret_bytes_ = 0;
  std::array<uint8_t, 12> mask_ = {};
  uint64_t sequence_ = 0;
};

}  // namespace kvferry
