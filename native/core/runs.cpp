#include "runs.h"

#include <algorithm>
#include <cstring>

namespace kvferry {

RunCursor::RunCursor(const Plane& plane, const uint32_t* blocks, size_t block_count, uint64_t start, uint64_t bytes)
    : plane_(&plane), blocks_(blocks), left_(bytes) {
  (void)block_count;
  begin(start);
}

RunCursor::RunCursor(const Plane* planes, uint32_t parts, const std::vector<uint32_t>* block_lists, uint64_t start, uint64_t bytes)
    : plane_(planes),
      blocks_(block_lists[planes->block_list].data()),
      left_(bytes),
      parts_left_(parts - 1),
      block_lists_(block_lists),
      start_(start),
      part_bytes_(bytes) {
  begin(start);
}

void RunCursor::begin(uint64_t start) {
  const Plane& plane = *plane_;
  const uint64_t head_bytes = uint64_t(plane.channels) * plane.element_bytes;
  const bool channels_lie = plane.channels == 1 || plane.channel_stride == plane.element_bytes;
  const bool heads_lie = channels_lie && (plane.heads == 1 || plane.head_stride == head_bytes);
  const bool tokens_lie = heads_lie && (plane.tokens == 1 || plane.token_stride == plane.token_bytes());
  unit_bytes_ = tokens_lie ? plane.block_bytes() : heads_lie ? plane.token_bytes() : channels_lie ? head_bytes : plane.element_bytes;
  tokens_ = tokens_lie ? 1 : plane.tokens;
  heads_ = heads_lie ? 1 : plane.heads;
  channels_ = channels_lie ? 1 : plane.channels;

  uint64_t at = start + uint64_t(plane.first_token) * plane.token_bytes();
  block_ = at / plane.block_bytes();
  at %= plane.block_bytes();
  uint64_t unit = at / unit_bytes_;
  in_unit_ = at % unit_bytes_;
  channel_ = uint32_t(unit % channels_);
  unit /= channels_;
  head_ = uint32_t(unit % heads_);
  token_ = uint32_t(unit / heads_);
}

bool RunCursor::begin_next_part() {
  if (parts_left_ == 0) return false;
  parts_left_ -= 1;
  plane_ += 1;
  blocks_ = block_lists_[plane_->block_list].data();
  left_ = part_bytes_;
  begin(start_);
  return true;
}

uint64_t RunCursor::address() const {
  return plane_->offset + blocks_[block_] * plane_->block_stride + token_ * plane_->token_stride + head_ * plane_->head_stride +
         channel_ * plane_->channel_stride + in_unit_;
}

// To the beginning of the next unit.
void RunCursor::advance() {
  in_unit_ = 0;
  if (++channel_ < channels_) return;
  channel_ = 0;
  if (++head_ < heads_) return;
  head_ = 0;
  if (++token_ < tokens_) return;
  token_ = 0;
  block_++;
}

bool RunCursor::next(Run* run, uint64_t limit) {
  if (limit == 0 || (left_ == 0 && !begin_next_part())) return false;
  run->offset = address();
  run->bytes = 0;
  limit = std::min(limit, left_);
  while (true) {
    const uint64_t take = std::min(unit_bytes_ - in_unit_, limit - run->bytes);
    run->bytes += take;
    in_unit_ += take;
    if (in_unit_ == unit_bytes_) advance();
    if (run->bytes == limit) break;
    if (address() != run->offset + run->bytes) break;
  }
  left_ -= run->bytes;
  return true;
}

uint64_t RunCursor::row_elements() const { return channels_ == 1 || in_unit_ != 0 ? 0 : channels_ - channel_; }

void RunCursor::skip_elements(uint64_t count) {
  left_ -= count * unit_bytes_;
  channel_ += uint32_t(count) - 1;
  advance();
}

namespace {

// Element sizes are few; a fixed size lets the compiler turn memcpy into one move.
template <size_t Bytes>
void pick(uint8_t* to, const uint8_t* from, uint64_t stride, uint64_t count) {
  for (uint64_t i = 0; i < count; i++) memcpy(to + i * Bytes, from + i * stride, Bytes);
}
template <size_t Bytes>
void place(uint8_t* to, uint64_t stride, const uint8_t* from, uint64_t count) {
  for (uint64_t i = 0; i < count; i++) memcpy(to + i * stride, from + i * Bytes, Bytes);
}

bool pick_row(uint8_t* to, const uint8_t* from, uint64_t stride, uint64_t count, uint64_t element) {
  switch (element) {
    case 1: pick<1>(to, from, stride, count); return true;
    case 2: pick<2>(to, from, stride, count); return true;
    case 4: pick<4>(to, from, stride, count); return true;
    case 8: pick<8>(to, from, stride, count); return true;
    default: return false;
  }
}

bool place_row(uint8_t* to, uint64_t stride, const uint8_t* from, uint64_t count, uint64_t element) {
  switch (element) {
    case 1: place<1>(to, stride, from, count); return true;
    case 2: place<2>(to, stride, from, count); return true;
    case 4: place<4>(to, stride, from, count); return true;
    case 8: place<8>(to, stride, from, count); return true;
    default: return false;
  }
}

}  // namespace

void gather(uint8_t* to, const uint8_t* region, RunCursor& from, uint64_t count) {
  Run run;
  while (count > 0) {
    const uint64_t element = from.unit_bytes_;
    const uint64_t row = std::min(from.row_elements(), std::min(count, from.left_) / element);
    if (row > 0 && pick_row(to, region + from.address(), from.plane_->channel_stride, row, element)) {
      from.skip_elements(row);
      to += row * element;
      count -= row * element;
      continue;
    }
    if (!from.next(&run, count)) return;
    memcpy(to, region + run.offset, run.bytes);
    to += run.bytes;
    count -= run.bytes;
  }
}

void scatter(uint8_t* region, RunCursor& to, const uint8_t* from, uint64_t count) {
  Run run;
  while (count > 0) {
    const uint64_t element = to.unit_bytes_;
    const uint64_t row = std::min(to.row_elements(), std::min(count, to.left_) / element);
    if (row > 0 && place_row(region + to.address(), to.plane_->channel_stride, from, row, element)) {
      to.skip_elements(row);
      from += row * element;
      count -= row * element;
      continue;
    }
    if (!to.next(&run, count)) return;
    memcpy(region + run.offset, from, run.bytes);
    from += run.bytes;
    count -= run.bytes;
  }
}

bool plane_fits(const Plane& plane, const uint32_t* blocks, size_t block_count, uint64_t region_bytes) {
  if (plane.tokens == 0 || plane.heads == 0 || plane.channels == 0 || plane.element_bytes == 0) return false;
  if (plane.first_token >= plane.tokens || block_count == 0) return false;
  uint64_t end = plane.offset;
  const auto add = [&end](uint64_t count, uint64_t stride) {
    uint64_t product;
    return !__builtin_mul_overflow(count, stride, &product) && !__builtin_add_overflow(end, product, &end);
  };
  uint32_t last = 0;
  for (size_t i = 0; i < block_count; i++) last = std::max(last, blocks[i]);
  const bool sums = add(last, plane.block_stride) && add(plane.tokens - 1, plane.token_stride) && add(plane.heads - 1, plane.head_stride) &&
                    add(plane.channels - 1, plane.channel_stride) && add(1, plane.element_bytes);
  uint64_t heads_and_channels, token_bytes, block_bytes;
  const bool counts = !__builtin_mul_overflow(uint64_t(plane.heads), uint64_t(plane.channels), &heads_and_channels) &&
                      !__builtin_mul_overflow(heads_and_channels, uint64_t(plane.element_bytes), &token_bytes) &&
                      !__builtin_mul_overflow(token_bytes, uint64_t(plane.tokens), &block_bytes);
  return sums && counts && end <= region_bytes;
}

}  // namespace kvferry
