#include "tls_stream.h"

#if KVFERRY_TLS
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

#include "socket.h"

namespace kvferry {
namespace {

// Of a record, and of the one that may have to go in front of it to change the key.
constexpr size_t kRecordRoom = kRecordBytes + 128;
constexpr size_t kBuffersKept = 64;
// Which carry nothing for the owner: tickets, changes of keys, nothing at all. One that does makes up for one of them.
constexpr uint32_t kIdleRecordsMax = 32;
constexpr uint8_t kTicket = 4, kKeyUpdate = 24;
constexpr size_t kMessageBytesMin = 4;
constexpr size_t kKeyUpdateBytes = 5;
constexpr uint8_t kCloseNotify = 0;
constexpr size_t kAlertBytes = 2;

// Buffers of kCipherBytes that were used before: fresh memory costs its first touch.
class FreeBuffers {
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

FreeBuffers& free_buffers() {
  // Never destroyed: streams may outlive it at the end of the process.
  static FreeBuffers* const all = new FreeBuffers;
  return *all;
}

void write_head(uint8_t* head, size_t body_bytes) {
  head[0] = uint8_t(ContentType::data);
  head[1] = head[2] = 3;
  head[3] = uint8_t(body_bytes >> 8);
  head[4] = uint8_t(body_bytes);
}

}  // namespace

void CipherBuffer::claim() {
  if (bytes == nullptr) bytes = free_buffers().take();
}

void CipherBuffer::release() {
  if (bytes != nullptr) free_buffers().give(std::move(bytes));
  first = end = 0;
}

// The part of the caller's vectors that is still empty.
struct TlsStream::Room {
  const iovec* vectors;
  size_t count;
  size_t used = 0;  // bytes of the first vector

  size_t left(size_t enough) const {
    size_t sum = 0;
    for (size_t index = 0; index < count && sum < enough; index++) sum += vectors[index].iov_len - (index == 0 ? used : 0);
    return sum;
  }

  // Calls take(to, bytes) for each stretch of the next `bytes`; false when one does.
  template <typename Take>
  bool walk(size_t bytes, Take take) const {
    size_t offset = used;
    for (size_t index = 0; bytes > 0; index++, offset = 0) {
      const size_t part = std::min(bytes, vectors[index].iov_len - offset);
      if (part > 0 && !take(static_cast<uint8_t*>(vectors[index].iov_base) + offset, part)) return false;
      bytes -= part;
    }
    return true;
  }

  void advance(size_t bytes) {
    used += bytes;
    while (count > 0 && used >= vectors->iov_len) {
      used -= vectors->iov_len;
      vectors += 1;
      count -= 1;
    }
  }
};

ssize_t TlsStream::receive(const iovec* vectors, size_t count) {
  dry_ = false;
  size_t total = 0;
  Room room = {vectors, count};
  room.advance(0);
  while (room.count > 0) {
    if (plain_first_ < plain_end_) {
      const size_t taken = std::min(plain_end_ - plain_first_, room.left(kRecordBytes));
      const uint8_t* from = in_.at(plain_first_);
      room.walk(taken, [&](uint8_t* to, size_t bytes) {
        memcpy(to, from, bytes);
        from += bytes;
        return true;
      });
      room.advance(taken);
      total += taken;
      plain_first_ += taken;
      if (plain_first_ == plain_end_) in_.first = plain_next_;
    } else if (over_) {
      break;
    } else if (record_bytes() > 0) {
      total += open_record(room);
    } else if (!refill()) {
      break;
    }
  }
  if (in_.size() == 0) in_.release();
  if (total > 0) return ssize_t(total);
  errno = over_ ? over_errno_ : EAGAIN;
  return over_ && over_errno_ == 0 ? 0 : -1;
}

bool TlsStream::pending() const {
  if (over_ || plain_first_ < plain_end_) return true;
  if (in_.size() < kRecordHeadBytes) return false;
  const uint8_t* head = in_.at(in_.first);
  return in_.size() >= kRecordHeadBytes + size_t(head[3]) * 256 + head[4];
}

// False: nothing has come, because there is nothing now (dry_) or never will be.
bool TlsStream::refill() {
  if (dry_ || ended_ || broken_ != 0) return false;
  in_.claim();
  // The beginning of a record whose rest has not come.
  if (in_.first > 0) memmove(in_.at(0), in_.at(in_.first), in_.size());
  in_.end -= std::exchange(in_.first, 0);
  ssize_t count;
  do {
    count = recv(fd_, in_.at(in_.end), kCipherBytes - in_.end, 0);
  } while (count < 0 && errno == EINTR);
  if (count > 0) {
    in_.end += size_t(count);
    // What is not there now is announced by epoll: asking again would only cost a call.
    dry_ = in_.end < kCipherBytes;
    const uint8_t first = in_.bytes[0];
    if (!std::exchange(spoke_, true)) foreign_ = first != uint8_t(ContentType::handshake) && first != uint8_t(ContentType::alert);
    return true;
  }
  if (count < 0 && errno == EAGAIN) {
    dry_ = true;
    return false;
  }
  if (count == 0) ended_ = true;
  else broken_ = errno;
  if (!is_established_) return false;
  over_ = true;
  over_errno_ = broken_;
  if (broken_ != 0) failure_ = {Code::connection_lost, describe_error(broken_)};
  return false;
}

size_t TlsStream::record_bytes() const {
  if (in_.size() < kRecordHeadBytes) return 0;
  const uint8_t* head = in_.at(in_.first);
  const size_t body = size_t(head[3]) * 256 + head[4];
  const bool is_right = head[0] == uint8_t(ContentType::data) && head[1] == 3 && head[2] == 3 && body >= kRecordTailBytes && body <= kRecordBodyMax;
  // A wrong head is found by whoever opens it.
  if (!is_right) return kRecordHeadBytes;
  return in_.size() >= kRecordHeadBytes + body ? kRecordHeadBytes + body : 0;
}

// Opens the first record of in_ into `room` if it has enough of that, else where it lies. Bytes that came into `room`.
size_t TlsStream::open_record(Room& room) {
  const size_t bytes = record_bytes();
  if (bytes <= kRecordHeadBytes) return fail("a record that is none"), 0;
  const uint8_t* record = in_.at(in_.first);
  const size_t content = bytes - kRecordHeadBytes - kRecordTailBytes;
  if (ssl_ == nullptr && content <= kRecordBytes && room.left(content) >= content) {
    const uint8_t* from = record + kRecordHeadBytes;
    uint8_t type = 0;
    bool right = opening_.start(record) && room.walk(content, [&](uint8_t* to, size_t part) {
      const bool done = opening_.apply(to, from, part);
      from += part;
      return done;
    });
    right = right && opening_.apply(&type, from, 1) && opening_.open(from + 1);
    if (!right) return fail("a record that is not authentic"), 0;
    if (type == uint8_t(ContentType::data) && content > 0) {
      in_.first += bytes;
      room.advance(content);
      idle_records_ -= std::min(idle_records_, 1u);
      return content;
    }
    // Something else, or padded: it has to lie together.
    opening_.repeat();
  }
  return open_apart(bytes);
}

// Content stays in in_ until there is room for it.
size_t TlsStream::open_apart(size_t bytes) {
  uint8_t* const record = in_.at(in_.first);
  uint8_t* const content = record + kRecordHeadBytes;
  // OpenSSL opens by itself what it is fed.
  const bool is_copied = ssl_ != nullptr;
  if (is_copied) {
    if (copy_ == nullptr) copy_ = std::make_unique_for_overwrite<uint8_t[]>(kRecordHeadBytes + kRecordBodyMax);
    memcpy(copy_.get(), record, bytes);
  }
  size_t end = bytes - kRecordHeadBytes - kTagBytes;
  if (!opening_.start(record) || !opening_.apply(content, content, end) || !opening_.open(content + end)) return fail("a record that is not authentic"), 0;
  while (end > 0 && content[end - 1] == 0) end -= 1;
  if (end == 0) return fail("a record of nothing but padding"), 0;
  const ContentType type = ContentType(content[--end]);
  if (end > kRecordBytes) return fail("a record that is too long"), 0;
  if (type != ContentType::data || end == 0) {
    // Whoever sends nothing else would have this thread for itself: such records end no turn.
    if (++idle_records_ > kIdleRecordsMax) return fail("too many records without content"), 0;
    in_.first += bytes;
  } else {
    idle_records_ -= std::min(idle_records_, 1u);
    plain_first_ = in_.first + kRecordHeadBytes;
    plain_end_ = plain_first_ + end;
    plain_next_ = in_.first + bytes;
  }
  // From here on no ticket comes that OpenSSL could read: it has not seen this record.
  if (type == ContentType::data) drop_openssl();
  else handle_other(type, content, end, is_copied ? copy_.get() : nullptr, bytes);
  return 0;
}

void TlsStream::handle_other(ContentType type, const uint8_t* content, size_t bytes, const uint8_t* record, size_t record_bytes) {
  if (type == ContentType::handshake) return handle_handshake(content, bytes, record, record_bytes);
  if (type != ContentType::alert || bytes != kAlertBytes) return fail("a record of an unknown type");
  over_ = true;
  if (content[1] == kCloseNotify) return;
  over_errno_ = EPROTO;
  failure_ = explain(dialogue_, 0, content[1]).failure;
}

// What a peer may say after the handshake: here is a ticket; here I change my key.
void TlsStream::handle_handshake(const uint8_t* message, size_t bytes, const uint8_t* record, size_t record_bytes) {
  const bool goes_on = message_left_ > 0;
  if (!goes_on && bytes < kMessageBytesMin) return fail("a message of the handshake that is none");
  if (!goes_on && message[0] == kKeyUpdate) {
    const bool is_right = bytes == kKeyUpdateBytes && message[1] == 0 && message[2] == 0 && message[3] == 1 && message[4] <= 1;
    if (!is_right || !opening_.advance()) return fail("a change of keys that is none");
    if (message[4] == 1) key_asked_.store(true, std::memory_order_relaxed);
    return;
  }
  if (dialogue_.role == TlsRole::server || (!goes_on && message[0] != kTicket)) return fail("a message of the handshake after its end");
  const size_t whole = goes_on ? message_left_ : kMessageBytesMin + size_t(message[1]) * 65536 + size_t(message[2]) * 256 + message[3];
  message_left_ = whole > bytes ? whole - bytes : 0;
  if (record != nullptr) feed(record, record_bytes);
}

void TlsStream::fail(const std::string& detail) {
  over_ = true;
  over_errno_ = EPROTO;
  failure_ = {Code::connection_lost, "the peer broke TLS: " + detail};
}

ssize_t TlsStream::send(const iovec* vectors, size_t count, bool more) {
  if (out_.size() > 0 && !std::exchange(held_, false) && !flush(more)) return -1;
  const iovec* vector = vectors;
  const iovec* const end = vectors + count;
  size_t used = 0, taken = 0;
  while (vector < end && kCipherBytes - out_.end >= kRecordRoom) {
    // What is large has records of its own, which the peer can open straight to where it belongs; small neighbours share one.
    size_t bytes = std::min(vector->iov_len - used, kRecordBytes);
    for (const iovec* next = vector + 1; bytes < kRecordBytes && next < end && next->iov_len < kRecordBytes; next++) {
      bytes = std::min(bytes + next->iov_len, kRecordBytes);
    }
    if (bytes == 0) {
      vector += 1;
      used = 0;
      continue;
    }
    if (!change_key() || !seal_record(ContentType::data, vector, used, bytes)) return errno = EPROTO, -1;
    taken += bytes;
  }
  if (!flush(more) && errno != EAGAIN) return -1;
  return ssize_t(taken);
}

// Takes `bytes` from the vectors on, and moves them on. False: OpenSSL failed.
bool TlsStream::seal_record(ContentType type, const iovec*& vector, size_t& used, size_t bytes) {
  out_.claim();
  uint8_t* const head = out_.at(out_.end);
  uint8_t* to = head + kRecordHeadBytes;
  write_head(head, bytes + kRecordTailBytes);
  if (!sealing_.start(head)) return false;
  for (size_t left = bytes; left > 0;) {
    const size_t part = std::min(left, vector->iov_len - used);
    if (part > 0 && !sealing_.apply(to, static_cast<const uint8_t*>(vector->iov_base) + used, part)) return false;
    to += part;
    left -= part;
    used += part;
    if (used < vector->iov_len) continue;
    used = 0;
    vector += 1;
  }
  const uint8_t kind = uint8_t(type);
  if (!sealing_.apply(to, &kind, 1) || !sealing_.seal(to + 1)) return false;
  out_.end += kRecordHeadBytes + bytes + kRecordTailBytes;
  return true;
}

bool TlsStream::seal_message(ContentType type, const uint8_t* message, size_t bytes) {
  const iovec vector = {const_cast<uint8_t*>(message), bytes};
  const iovec* first = &vector;
  size_t used = 0;
  return seal_record(type, first, used, bytes);
}

// Before this one wears out, or because the peer asks for it.
bool TlsStream::change_key() {
  const bool is_asked = key_asked_.load(std::memory_order_relaxed) && key_asked_.exchange(false);
  if (!is_asked && sealing_.sequence() < dialogue_.context->records_per_key) return true;
  const uint8_t update[kKeyUpdateBytes] = {kKeyUpdate, 0, 0, 1, 0};
  return seal_message(ContentType::handshake, update, sizeof update) && sealing_.advance();
}

bool TlsStream::flush(bool more) {
  while (out_.size() > 0) {
    const ssize_t count = ::send(fd_, out_.at(out_.first), out_.size(), MSG_NOSIGNAL | (more ? MSG_MORE : 0));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return false;
    out_.first += size_t(count);
  }
  out_.release();
  return true;
}

void TlsStream::farewell() {
  const uint8_t alert[kAlertBytes] = {1, kCloseNotify};
  if (is_established_ && kCipherBytes - out_.end >= kRecordRoom) seal_message(ContentType::alert, alert, sizeof alert);
  flush();
}

}  // namespace kvferry
#endif
