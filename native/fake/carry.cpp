// What the courier does with one lane: takes a chunk, has it judged by the other end, copies it from run to run, has it answered.
#include <algorithm>
#include <cstring>
#include <vector>

#include "../core/clock.h"
#include "../core/crc32c.h"
#include "connection.h"
#include "mover.h"

namespace kvferry {
namespace {

constexpr uint64_t kPieceBytes = 256 << 10;
constexpr int kChunksPerTurn = 16;


// Both placements are pinned. Stops where one of them is revoked.
Code copy(const Outgoing& out, Placement& landing, FakeLane& twin) {
  Placement& source = *out.placement;
  RunCursor from = source.cursor(out.chunk);
  RunCursor to = landing.cursor(out.chunk);
  uint32_t read_crc = 0, written_crc = 0;
  Run read = {0, 0}, written = {0, 0};
  for (;;) {
    if (source.revoked.load()) return Code::cancelled;
    if (landing.revoked.load()) {
      twin.connection.let_go(twin);
      return Code::none;
    }
    if (read.bytes == 0 && !from.next(&read, kPieceBytes)) break;
    if (written.bytes == 0 && !to.next(&written, kPieceBytes)) break;
    const uint64_t count = std::min(read.bytes, written.bytes);
    const uint8_t* const bytes = source.spec.region->base + read.offset;
    uint8_t* const target = landing.spec.region->base + written.offset;
    // Two ends of one process may name the same memory.
    memmove(target, bytes, count);
    if (source.spec.checksum) {
      read_crc = crc32c(read_crc, bytes, count);
      written_crc = crc32c(written_crc, target, count);
    }
    read = {read.offset + count, read.bytes - count};
    written = {written.offset + count, written.bytes - count};
  }
  return read_crc == written_crc ? Code::none : Code::checksum_mismatch;
}

// As `copy`, of a chunk that is coded into `coded`.
Code decode(const std::vector<uint8_t>& coded, uint32_t chunk, Placement& landing) {
  const CodedChunk about = landing.coded(chunk);
  std::vector<uint8_t> stretches(about.bytes);
  if (!landing.codec(chunk)->decode(about, coded.data(), coded.size(), stretches.data())) return Code::codec_failed;
  landing.scatter_coded(chunk, stretches.data());
  return Code::none;
}

// Empty: it travels as it is.
std::vector<uint8_t> encode(const Outgoing& out) {
  const ChunkCodec* const codec = out.placement->codec(out.chunk);
  if (codec == nullptr) return {};
  const CodedChunk about = out.placement->coded(out.chunk);
  std::vector<uint8_t> stretches(about.bytes), coded(codec->bound(about.bytes));
  out.placement->gather_coded(out.chunk, stretches.data());
  coded.resize(codec->encode(about, stretches.data(), coded.data()));
  return coded;
}

}  // namespace

bool carry(FakeLane& lane, bool* violation) {
  std::lock_guard<std::mutex> lock(lane.pair->mutex);
  for (int turn = 0; turn < kChunksPerTurn; turn++) {
    if (lane.pair->dead) return false;
    FakeLane& twin = *lane.twin;
    EventQueue& room = twin.connection.mover.events();
    // The flag goes up first: whoever makes room after this sees it.
    lane.waiting.store(true);
    if (!room.reserve(Quota::arrival)) return false;
    lane.waiting.store(false);
    Outgoing out;
    if (!lane.connection.take(lane, &out)) {
      room.release(Quota::arrival);
      return false;
    }
    const PlacementSpec& spec = out.placement->spec;
    const std::vector<uint8_t> coded = encode(out);
    const uint16_t flags = (spec.checksum ? kFlagChecksum : 0) | (coded.empty() ? 0 : kFlagCoded);
    const uint32_t bytes = coded.empty() ? spec.chunks[out.chunk].bytes : uint32_t(coded.size());
    if (!coded.empty()) lane.connection.shrunk(lane, bytes);
    FrameHeader header = {FrameType::chunk, flags, spec.grant, spec.generation, out.chunk, bytes, out.sequence, 0};
    const Arrival arrival = twin.connection.arrived(twin, header);
    if (arrival.landing == Landing::violation) {
      *violation = true;
      return false;
    }
    Answer answer = arrival.answer;
    if (arrival.landing == Landing::write) {
      const Code fault = coded.empty() ? copy(out, *arrival.placement, twin) : decode(coded, out.chunk, *arrival.placement);
      // Before its event: whoever hears of the chunk finds it counted.
      twin.bytes_received.fetch_add(header.bytes);
      answer = twin.connection.landed(twin, header, fault);
    }
    lane.bytes_sent.fetch_add(header.bytes);
    lane.connection.sent(lane);
    header.type = answer.type;
    header.status = uint32_t(answer.status);
    lane.connection.answered(lane, header, now_us());
  }
  return true;
}

}  // namespace kvferry
