// What makes the bytes of chunks fewer on the way; schemas/codec.md has the bytes that come out. Immutable: several threads use one at once.
#pragma once
#include <cstddef>
#include <cstdint>

namespace kvferry {

// A chunk as a codec sees it: the same tokens of `parts` planes, one stretch after the other, each in the order of its plane's stream.
struct CodedChunk {
  uint64_t bytes;     // of all parts
  uint32_t position;  // of its first token in the sequence
  uint32_t end;       // behind the last token of the sequence, as far as it is known
};

class ChunkCodec {
 public:
  virtual ~ChunkCodec() = default;
  virtual uint32_t parts() const = 0;
  // Bytes of one token in the stream of one plane.
  virtual uint64_t token_bytes() const = 0;
  // Whether there are codes of a chunk of so many bytes.
  virtual bool takes(uint64_t bytes) const = 0;
  // The room that `encode` needs.
  virtual size_t bound(uint64_t bytes) const = 0;
  // Bytes written; 0: it would not become less, and travels as it is.
  virtual size_t encode(const CodedChunk& chunk, const uint8_t* stretches, uint8_t* out) const = 0;
  // False: these are no bytes that `encode` makes. Reads and writes nothing outside, whatever they are.
  virtual bool decode(const CodedChunk& chunk, const uint8_t* from, size_t count, uint8_t* stretches) const = 0;
};

}  // namespace kvferry
