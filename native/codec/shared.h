// A codec that several callers use at once: JavaScript's calls, and the lanes of placements whose chunks it codes.
#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "../core/chunk_codec.h"
#include "../core/clock.h"
#include "tile.h"

namespace kvferry::codec {

// Of the chunks that lanes coded with one codec since it was made. Bytes are those of whole chunks.
struct ChunkCounts {
  std::atomic<uint64_t> encode_ns{0}, encoded_chunks{0}, encoded_bytes{0};
  std::atomic<uint64_t> sent_bytes{0};  // as they travel: of chunks that are stored, all
  std::array<std::atomic<uint64_t>, kStoredMax + 1> stored_chunks = {};
  std::atomic<uint64_t> decode_ns{0}, decoded_chunks{0}, decoded_bytes{0};
  std::atomic<uint64_t> arrived_bytes{0};  // as they travelled
  std::atomic<uint64_t> failed_chunks{0};
};

// The codec and its free workspaces: one for each call under way, kept for the next.
struct Shared : ChunkCodec {
  explicit Shared(std::unique_ptr<const TileCoder> coder) : owned(std::move(coder)), tiles(*owned) {}

  uint32_t parts() const override { return tiles.parts(); }
  uint64_t token_bytes() const override { return tiles.part_bytes(1); }
  bool takes(uint64_t bytes) const override { return tokens_of(bytes) <= kTokensMax && tiles.takes(uint32_t(tokens_of(bytes))); }
  size_t bound(uint64_t bytes) const override { return tiles.bound(uint32_t(tokens_of(bytes))); }
  size_t encode(const CodedChunk& chunk, const uint8_t* stretches, uint8_t* out) const override {
    const uint64_t start_ns = now_ns();
    const uint32_t tokens = uint32_t(tokens_of(chunk.bytes));
    std::unique_ptr<Workspace> space = take();
    const Encoded encoded = tiles.encode(each_part(stretches, tokens).data(), tokens, chunk.position, chunk.end, out, space.get());
    give(std::move(space));
    const Stored stored = encoded.stored == Stored::no && encoded.bytes >= chunk.bytes ? Stored::incompressible : encoded.stored;
    const uint64_t sent = stored == Stored::no ? encoded.bytes : chunk.bytes;
    add(counts.encode_ns, now_ns() - start_ns);
    add(counts.encoded_chunks, 1);
    add(counts.encoded_bytes, chunk.bytes);
    add(counts.sent_bytes, sent);
    if (stored == Stored::no) return encoded.bytes;
    add(counts.stored_chunks[size_t(stored)], 1);
    return 0;
  }
  bool decode(const CodedChunk& chunk, const uint8_t* from, size_t count, uint8_t* stretches) const override {
    const uint64_t start_ns = now_ns();
    const uint32_t tokens = uint32_t(tokens_of(chunk.bytes));
    std::unique_ptr<Workspace> space = take();
    const std::string problem = tiles.decode(from, count, each_part(stretches, tokens).data(), tokens, chunk.position, space.get());
    give(std::move(space));
    if (!problem.empty()) {
      add(counts.failed_chunks, 1);
      return false;
    }
    add(counts.decode_ns, now_ns() - start_ns);
    add(counts.decoded_chunks, 1);
    add(counts.decoded_bytes, chunk.bytes);
    add(counts.arrived_bytes, count);
    return true;
  }
  // Where each part begins that lies behind the one before.
  template <typename Byte>
  std::vector<Byte*> each_part(Byte* first, uint32_t tokens) const {
    std::vector<Byte*> found;
    for (uint32_t part = 0; part < parts(); part++) found.push_back(first + part * tiles.part_bytes(tokens));
    return found;
  }
  uint64_t tokens_of(uint64_t bytes) const { return bytes / (parts() * token_bytes()); }

  std::unique_ptr<Workspace> take() const {
    const std::lock_guard<std::mutex> lock(mutex);
    if (free.empty()) return std::make_unique<Workspace>();
    std::unique_ptr<Workspace> space = std::move(free.back());
    free.pop_back();
    return space;
  }
  void give(std::unique_ptr<Workspace> space) const {
    const std::lock_guard<std::mutex> lock(mutex);
    free.push_back(std::move(space));
  }

  // Sums that nothing else is ordered by.
  static void add(std::atomic<uint64_t>& sum, uint64_t more) { sum.fetch_add(more, std::memory_order_relaxed); }

  const std::unique_ptr<const TileCoder> owned;
  const TileCoder& tiles;
  mutable ChunkCounts counts;
  mutable std::mutex mutex;
  mutable std::vector<std::unique_ptr<Workspace>> free;
};

}  // namespace kvferry::codec
