// A lane's receiving half: headers are judged before a payload byte lands, payload goes from the kernel to where the grant says, a piece at
// a time, and is checksummed while it is in cache. Poller's thread only.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "../core/clock.h"
#include "../core/crc32c.h"
#include "../core/scratch.h"
#include "lane.h"
#include "mover.h"
#include "poller.h"

namespace kvferry {
namespace {

constexpr size_t kTurnBytes = 1 << 20;
constexpr size_t kAheadBytes = kCopiedChunkBytes;
// From here on it pays to read no further than the next header, so that the payload behind it need not be copied.
constexpr size_t kLargeBytes = 64 << 10;

}  // namespace

void TcpLane::receive() {
  bool drained = false;
  turn_us_ = 0;
  for (size_t turn = 0;;) {
    if (!digest()) return close(Code::protocol_error);
    if (state_ == State::dead) return;
    if (!wants_in_ || drained || turn >= kTurnBytes) break;
    size_t wanted = 0;
    const ssize_t count = fetch(&wanted);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) break;
    if (count <= 0) return close(Code::lane_lost);
    turn += size_t(count);
    // What is not there now is announced by epoll: asking again would only cost a call.
    drained = size_t(count) < wanted;
  }
  if (std::exchange(flush_, false)) send(false);
  if (state_ != State::dead && wants_in_ && stream_.pending()) post(request::kRead);
}

// Goes as far as the bytes read ahead allow. False: the peer broke the protocol.
bool TcpLane::digest() {
  for (;;) {
    switch (reading_) {
      case Reading::header:
        if (ahead_bytes() < kHeaderBytes) {
          memmove(ahead_.get(), ahead_.get() + ahead_first_, ahead_bytes());
          ahead_end_ -= std::exchange(ahead_first_, 0);
          return true;
        }
        if (!decode_header(ahead_.get() + ahead_first_, connection_->mover.bounds.chunk_bytes, &header_)) return false;
        ahead_first_ += kHeaderBytes;
        if (!begin_frame()) return false;
        break;
      case Reading::waiting:
        if (!wants_in_) return true;
        if (!begin_chunk()) return false;
        break;
      case Reading::payload:
      case Reading::discard:
        if (in_left_ > 0 && ahead_bytes() == 0) {
          ahead_first_ = ahead_end_ = 0;
          return true;
        }
        absorb();
        if (in_left_ == 0) reading_ = header_.type == FrameType::pad ? Reading::header : Reading::trailer;
        break;
      case Reading::trailer:
        if (ahead_bytes() < kTrailerBytes) {
          memmove(ahead_.get(), ahead_.get() + ahead_first_, ahead_bytes());
          ahead_end_ -= std::exchange(ahead_first_, 0);
          return true;
        }
        finish_chunk();
        break;
    }
    if (!wants_in_ || state_ == State::dead) return true;
  }
}

bool TcpLane::begin_frame() {
  lean_ = false;
  if (state_ == State::greeting) {
    if (header_.type != FrameType::pong || header_.grant != 0 || header_.chunk != 0 || header_.sequence != 0) return false;
    come_up();
    return true;
  }
  switch (header_.type) {
    case FrameType::chunk:
      return begin_chunk();
    case FrameType::ack:
    case FrameType::nack: {
      if (turn_us_ == 0) turn_us_ = now_us();
      const Answering outcome = connection_->answered(*this, header_, turn_us_);
      if (outcome == Answering::room) flush_ = true;
      return outcome != Answering::violation;
    }
    case FrameType::ping:
      header_.type = FrameType::pong;
      header_.flags = 0;
      answer(header_);
      return true;
    case FrameType::pong:
      return true;
    case FrameType::pad:
      placement_ = nullptr;
      in_left_ = header_.bytes;
      in_vectored_ = 0;
      reading_ = Reading::discard;
      return true;
  }
  return false;
}

bool TcpLane::begin_chunk() {
  if (!connection_->mover.events().reserve(Quota::arrival)) {
    reading_ = Reading::waiting;
    poller_.wait_for_room(*this);
    pause();
    return true;
  }
  const Arrival arrival = connection_->arrived(*this, header_);
  if (arrival.landing == Landing::violation) return false;
  placement_ = arrival.placement;
  refusal_ = arrival.answer;
  reading_ = arrival.landing == Landing::write ? Reading::payload : Reading::discard;
  lean_ = header_.bytes >= kLargeBytes;
  in_left_ = header_.bytes;
  in_vectored_ = 0;
  in_crc_ = 0;
  if (placement_ == nullptr) return true;
  if (!is_coded()) {
    in_cursor_.emplace(placement_->cursor(header_.chunk));
    return true;
  }
  arrived_end_ = 0;
  if (arrived_room_ < header_.bytes) {
    arrived_ = std::make_unique_for_overwrite<uint8_t[]>(header_.bytes);
    arrived_room_ = header_.bytes;
  }
  return true;
}

// Payload that was read ahead goes where it belongs.
void TcpLane::absorb() {
  const size_t count = std::min(in_left_, ahead_bytes());
  const uint8_t* const bytes = ahead_.get() + ahead_first_;
  if (reading_ == Reading::payload && placement_->revoked.load()) let_go();
  if (reading_ == Reading::payload && count > 0) {
    if ((header_.flags & kFlagChecksum) != 0) in_crc_ = crc32c(in_crc_, bytes, count);
    put(bytes, count);
  }
  ahead_first_ += count;
  in_left_ -= count;
}

// Payload of short runs, or of a coded chunk, which is decoded once it is whole.
void TcpLane::put(const uint8_t* bytes, size_t count) {
  if (!is_coded()) return scatter(placement_->spec.region->base, *in_cursor_, bytes, count);
  memcpy(arrived_.get() + arrived_end_, bytes, count);
  arrived_end_ += count;
}

bool TcpLane::decode() {
  const CodedChunk chunk = placement_->coded(header_.chunk);
  uint8_t* const stretches = scratch(chunk.bytes);
  if (!placement_->codec(header_.chunk)->decode(chunk, arrived_.get(), arrived_end_, stretches)) return false;
  placement_->scatter_coded(header_.chunk, stretches);
  return true;
}

void TcpLane::finish_chunk() {
  uint32_t crc, verdict;
  decode_trailer(ahead_.get() + ahead_first_, &crc, &verdict);
  ahead_first_ += kTrailerBytes;
  Answer verdict_answer = refusal_;
  if (placement_ != nullptr) {
    Code fault = verdict == kVerdictWhole ? Code::none : Code::cancelled;
    if (fault == Code::none && (header_.flags & kFlagChecksum) != 0 && crc != in_crc_) fault = Code::checksum_mismatch;
    if (fault == Code::none && is_coded() && !decode()) fault = Code::codec_failed;
    verdict_answer = connection_->landed(*this, header_, fault);
    placement_ = nullptr;
  }
  header_.type = verdict_answer.type;
  header_.status = uint32_t(verdict_answer.status);
  header_.flags = 0;
  header_.bytes = 0;
  answer(header_);
  reading_ = Reading::header;
}

void TcpLane::answer(const FrameHeader& header) {
  flush_ = true;
  std::lock_guard<std::mutex> lock(send_mutex_);
  answers_.push(header);
  // A peer that sends and sends and does not read what we say waits until it does.
  if (answers_.size() < kUnansweredChunks + kUnansweredChunks / 2) return;
  choked_ = true;
  wants_in_ = false;
}

ssize_t TcpLane::fetch(size_t* wanted) {
  if (reading_ == Reading::payload && placement_->revoked.load()) let_go();
  if (reading_ == Reading::payload) return fetch_payload(wanted);
  if (reading_ == Reading::discard) return fetch_discarded(wanted);
  const size_t least = reading_ == Reading::trailer ? kTrailerBytes + kHeaderBytes : kHeaderBytes;
  *wanted = (lean_ ? least : kAheadBytes) - ahead_end_;
  const ssize_t count = stream_.receive(ahead_.get() + ahead_end_, *wanted);
  if (count > 0) ahead_end_ += size_t(count);
  return count;
}

ssize_t TcpLane::fetch_payload(size_t* wanted) {
  const Placement& placement = *placement_;
  if (in_vectored_ == 0) {
    in_first_ = in_count_ = 0;
    const size_t piece = std::min(in_left_, kPieceBytes);
    if (is_coded()) {
      in_vectors_[in_count_++] = {arrived_.get() + arrived_end_, piece};
      in_vectored_ = piece;
    } else if (placement.is_fine(header_.chunk)) {
      if (scattered_ == nullptr) scattered_ = std::make_unique_for_overwrite<uint8_t[]>(kPieceBytes);
      in_vectors_[in_count_++] = {scattered_.get(), piece};
      in_vectored_ = piece;
    }
    Run run;
    for (; in_vectored_ < piece && in_count_ < kPieceRuns && in_cursor_->next(&run, piece - in_vectored_); in_count_++) {
      in_vectors_[in_count_] = {placement.spec.region->base + run.offset, run.bytes};
      in_vectored_ += run.bytes;
    }
  }
  size_t count = in_count_;
  *wanted = in_vectored_;
  if (in_vectored_ == in_left_) {
    // The end of the payload brings the trailer along, and the next header.
    in_vectors_[count++] = {ahead_.get(), lean_ ? kTrailerBytes + kHeaderBytes : kAheadBytes};
    *wanted += in_vectors_[in_count_].iov_len;
  }
  const ssize_t got = stream_.receive(in_vectors_.data() + in_first_, count - in_first_);
  if (got > 0) take_in(size_t(got));
  return got;
}

// Checksums what the kernel has put into the vectors, while it is in cache.
void TcpLane::take_in(size_t count) {
  const size_t payload = std::min(count, in_vectored_);
  ahead_first_ = 0;
  ahead_end_ = count - payload;
  in_left_ -= payload;
  in_vectored_ -= payload;
  const bool fine = !is_coded() && placement_->is_fine(header_.chunk);
  if (is_coded()) arrived_end_ += payload;
  for (size_t left = payload; left > 0;) {
    iovec& vector = in_vectors_[in_first_];
    uint8_t* const bytes = static_cast<uint8_t*>(vector.iov_base);
    const size_t part = std::min(left, vector.iov_len);
    if ((header_.flags & kFlagChecksum) != 0) in_crc_ = crc32c(in_crc_, bytes, part);
    if (fine) scatter(placement_->spec.region->base, *in_cursor_, bytes, part);
    vector.iov_base = bytes + part;
    vector.iov_len -= part;
    left -= part;
    if (vector.iov_len == 0) in_first_ += 1;
  }
}

ssize_t TcpLane::fetch_discarded(size_t* wanted) {
  iovec vectors[2] = {{poller_.sink(), std::min(in_left_, Poller::kSinkBytes)}, {ahead_.get(), lean_ ? kTrailerBytes + kHeaderBytes : kAheadBytes}};
  const bool last = vectors[0].iov_len == in_left_;
  *wanted = vectors[0].iov_len + (last ? vectors[1].iov_len : 0);
  const ssize_t got = stream_.receive(vectors, last ? 2 : 1);
  if (got <= 0) return got;
  const size_t payload = std::min(size_t(got), in_left_);
  in_left_ -= payload;
  ahead_first_ = 0;
  ahead_end_ = size_t(got) - payload;
  return got;
}

// The memory was taken back: what has not arrived is thrown away. Vectors of the piece die with it.
void TcpLane::let_go() {
  if (placement_ == nullptr || !placement_->revoked.load()) return;
  connection_->let_go(*this);
  placement_ = nullptr;
  refusal_ = {FrameType::nack, Code::grant_unknown};
  in_vectored_ = 0;
  if (reading_ == Reading::payload) reading_ = Reading::discard;
}

void TcpLane::pause() {
  std::lock_guard<std::mutex> lock(send_mutex_);
  wants_in_ = false;
  set_interest_locked();
}

}  // namespace kvferry
