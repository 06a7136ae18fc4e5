// A lane's sending half: takes chunks from the exchange when the socket can send them, gathers them from where they lie, checksums a
// piece and hands it to the kernel. Everything here holds send_mutex_, on the poller's thread or on JavaScript's.
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "../core/crc32c.h"
#include "../core/scratch.h"
#include "lane.h"
#include "mover.h"

namespace kvferry {
namespace {

// After so much the lane lets others of its thread have a turn.
constexpr size_t kTurnBytes = 1 << 20;
// What goes in place of memory that was taken back.
constexpr size_t kZeroBytes = 64 << 10;
alignas(4096) const uint8_t kZeros[kZeroBytes] = {};

}  // namespace

void TcpLane::send(bool writable_now) {
  Flow flow;
  {
    std::lock_guard<std::mutex> lock(send_mutex_);
    if (state_ != State::up && state_ != State::greeting) return;
    flow = pump(writable_now);
    wants_out_ = flow == Flow::blocked;
    set_interest_locked();
  }
  if (flow == Flow::broken) close(Code::lane_lost);
}

void TcpLane::send_inline() {
  std::unique_lock<std::mutex> lock(send_mutex_, std::try_to_lock);
  if (!lock.owns_lock()) return post(request::kSend);
  if (state_ != State::up) return;
  const Flow flow = pump(false);
  wants_out_ = flow == Flow::blocked;
  set_interest_locked();
  // The poller finds out why.
  if (flow == Flow::broken) post(request::kSend);
}

TcpLane::Flow TcpLane::pump(bool writable_now) {
  fresh_ = writable_now || !wants_out_;
  // In the middle of a piece that the kernel did not take: epoll will say when.
  if (!fresh_ && (staged_ > 0 || stream_.waiting())) return Flow::blocked;
  if (stream_.waiting() && !stream_.flush()) return errno == EAGAIN ? Flow::blocked : Flow::broken;
  if (state_ != State::up) return Flow::idle;
  for (size_t turn = 0; turn < kTurnBytes;) {
    if (staged_ == 0 && !stage()) return wants_out_ ? Flow::blocked : Flow::idle;
    const ssize_t count = stream_.send(out_vectors_.data() + out_first_, out_count_ - out_first_, out_left_ > 0);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno == EAGAIN ? Flow::blocked : Flow::broken;
    fresh_ = false;
    turn += size_t(count);
    advance(size_t(count));
    if (staged_ > 0 || stream_.waiting()) return Flow::blocked;
  }
  return Flow::blocked;
}

// Makes the next piece; false = nothing to send, or (wants_out_) no room to bind another chunk to this lane yet.
bool TcpLane::stage() {
  out_first_ = out_count_ = 0;
  wants_out_ = false;
  if (!out_open_) stage_copied();
  if (out_open_) stage_payload();
  return staged_ > 0;
}

void TcpLane::stage_copied() {
  copied_end_ = 0;
  uint8_t* const bytes = copied_.get();
  for (; !answers_.empty() && copied_end_ + kHeaderBytes <= kCopiedBytes / 2; answers_.pop()) {
    encode_header(answers_.front(), bytes + copied_end_);
    copied_end_ += kHeaderBytes;
  }
  if (choked_ && answers_.size() < kUnansweredChunks / 2) {
    choked_ = false;
    post(request::kRead);
  }
  while (!out_open_ && copied_end_ + kHeaderBytes + kCopiedChunkBytes + kTrailerBytes <= kCopiedBytes) {
    if (!fresh_ && !writable()) {
      wants_out_ = true;
      break;
    }
    if (!connection_->take(*this, &out_)) break;
    padding_left_ = 0;
    const PlacementSpec& spec = out_.placement->spec;
    out_open_ = out_pinned_ = true;
    const size_t coded_bytes = out_.placement->codec(out_.chunk) == nullptr ? 0 : encode();
    out_coded_ = coded_bytes > 0;
    if (out_coded_) connection_->shrunk(*this, uint32_t(coded_bytes));
    const uint32_t chunk_bytes = out_coded_ ? uint32_t(coded_bytes) : spec.chunks[out_.chunk].bytes;
    const uint16_t flags = (spec.checksum ? kFlagChecksum : 0) | (out_coded_ ? kFlagCoded : 0);
    encode_header({FrameType::chunk, flags, spec.grant, spec.generation, out_.chunk, chunk_bytes, out_.sequence, 0}, bytes + copied_end_);
    copied_end_ += kHeaderBytes;
    out_abandoned_ = false;
    out_checksum_ = spec.checksum;
    out_left_ = chunk_bytes;
    out_crc_ = 0;
    if (out_coded_) {
      // The memory of the chunk is not needed any more.
      finish_payload();
      break;
    }
    out_cursor_.emplace(out_.placement->cursor(out_.chunk));
    if (chunk_bytes > kCopiedChunkBytes) break;
    gather(bytes + copied_end_, spec.region->base, *out_cursor_, chunk_bytes);
    if (out_checksum_) out_crc_ = crc32c(0, bytes + copied_end_, chunk_bytes);
    copied_end_ += chunk_bytes;
    encode_trailer(out_crc_, kVerdictWhole, bytes + copied_end_);
    copied_end_ += kTrailerBytes;
    out_left_ = 0;
    out_open_ = false;
    finish_payload();
  }
  head_left_ = copied_end_;
  if (copied_end_ > 0) stage_vector(bytes, copied_end_);
  else if (padding_left_ > 0 && !wants_out_) stage_padding();
}

// The chunk as it travels, in coded_; 0: it travels as it is.
size_t TcpLane::encode() {
  const Placement& placement = *out_.placement;
  const CodedChunk chunk = placement.coded(out_.chunk);
  const ChunkCodec& codec = *placement.codec(out_.chunk);
  if (const size_t room = codec.bound(chunk.bytes); coded_room_ < room) {
    coded_ = std::make_unique_for_overwrite<uint8_t[]>(room);
    coded_room_ = room;
  }
  uint8_t* const stretches = scratch(chunk.bytes);
  placement.gather_coded(out_.chunk, stretches);
  coded_next_ = 0;
  return codec.encode(chunk, stretches, coded_.get());
}

// Nothing else waits: the path is kept busy, so that what comes next finds it wide.
void TcpLane::stage_padding() {
  if (!fresh_ && !writable()) {
    wants_out_ = true;
    return;
  }
  const size_t count = std::min<size_t>(padding_left_, kZeroBytes);
  FrameHeader header;
  header.type = FrameType::pad;
  header.bytes = uint32_t(count);
  encode_header(header, copied_.get());
  stage_vector(copied_.get(), kHeaderBytes);
  stage_vector(kZeros, count);
  head_left_ = kHeaderBytes + count;
  padding_left_ -= count;
}

void TcpLane::stage_payload() {
  const size_t piece = std::min(out_left_, kPieceBytes);
  if (out_abandoned_) {
    stage_zeros(piece);
  } else if (out_coded_) {
    const uint8_t* const bytes = coded_.get() + coded_next_;
    if (out_checksum_) out_crc_ = crc32c(out_crc_, bytes, piece);
    stage_vector(bytes, piece);
    payload_staged_ += piece;
    coded_next_ += piece;
  } else if (out_.placement->is_fine(out_.chunk)) {
    if (gathered_ == nullptr) gathered_ = std::make_unique_for_overwrite<uint8_t[]>(kPieceBytes);
    gather(gathered_.get(), out_.placement->spec.region->base, *out_cursor_, piece);
    if (out_checksum_) out_crc_ = crc32c(out_crc_, gathered_.get(), piece);
    stage_vector(gathered_.get(), piece);
    payload_staged_ += piece;
  } else {
    const uint8_t* const base = out_.placement->spec.region->base;
    Run run;
    for (size_t runs = 0; runs < kPieceRuns && payload_staged_ < piece && out_cursor_->next(&run, piece - payload_staged_); runs++) {
      if (out_checksum_) out_crc_ = crc32c(out_crc_, base + run.offset, run.bytes);
      stage_vector(base + run.offset, run.bytes);
      payload_staged_ += run.bytes;
    }
  }
  out_left_ -= payload_staged_;
  if (out_left_ > 0) return;
  encode_trailer(out_abandoned_ ? 0 : out_crc_, out_abandoned_ ? kVerdictAbandoned : kVerdictWhole, trailer_.data());
  stage_vector(trailer_.data(), kTrailerBytes);
}

void TcpLane::stage_zeros(size_t bytes) {
  for (size_t left = bytes; left > 0;) {
    const size_t part = std::min(left, kZeroBytes);
    stage_vector(kZeros, part);
    left -= part;
  }
  payload_staged_ += bytes;
}

void TcpLane::stage_vector(const void* bytes, size_t count) {
  out_vectors_[out_count_++] = {const_cast<void*>(bytes), count};
  staged_ += count;
}

// Whether the kernel would take more now: a chunk is bound to the lane that can send it.
bool TcpLane::writable() const {
  if (stream_.waiting()) return false;
  pollfd asked = {stream_.fd(), POLLOUT, 0};
  return poll(&asked, 1, 0) > 0;
}

void TcpLane::advance(size_t count) {
  staged_ -= count;
  const size_t head = std::min(count, head_left_);
  head_left_ -= head;
  payload_staged_ -= std::min(count - head, payload_staged_);
  for (size_t left = count; left > 0;) {
    iovec& vector = out_vectors_[out_first_];
    const size_t part = std::min(left, vector.iov_len);
    vector.iov_base = static_cast<uint8_t*>(vector.iov_base) + part;
    vector.iov_len -= part;
    left -= part;
    if (vector.iov_len == 0) out_first_ += 1;
  }
  if (!out_open_ || payload_staged_ > 0 || out_left_ > 0) return;
  finish_payload();
  if (staged_ == 0) out_open_ = false;
}

// The memory of the chunk is not needed any more.
void TcpLane::finish_payload() {
  if (std::exchange(out_pinned_, false)) connection_->sent(*this);
}

// The memory was taken back in the middle of a chunk: what was announced goes on as zeros, and the trailer says so.
void TcpLane::abandon() {
  if (!out_pinned_ || !out_.placement->revoked.load()) return;
  out_left_ += payload_staged_;
  out_abandoned_ = true;
  // Of the piece only the head stays, as far as it is not sent.
  staged_ = head_left_;
  payload_staged_ = 0;
  if (head_left_ > 0) {
    out_count_ = out_first_ + 1;
    const size_t before = staged_;
    staged_ = 0;
    stage_payload();
    staged_ += before;
  }
  finish_payload();
}

}  // namespace kvferry
