// Codes to bytes and back: the last stage of a codec. Streams of segments follow one another; one whose length does not follow from its codes is preceded
// by it (4 bytes), unless it is the last.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "quantize.h"
#include "rans.h"
#include "scratch.h"
#include "spec.h"

namespace kvferry::codec {

class Coding {
 public:
  // `spec` has no problem, and outlives this.
  Coding(const Spec& spec, Isa isa);
  // 8: the codes are the bytes, and what `encode` and `decode` would copy may be written and read in place. Below that they may be read there, so many bits
  // each: those of every row of a head are whole bytes, none of which says what no code is. 0: neither.
  uint32_t bits_in_place(const std::vector<Segment>& segments) const;
  // No stream of these codes is longer.
  size_t bound(const std::vector<Segment>& segments, size_t code_bytes) const;
  // `out` has `bound`. False: not to be coded.
  bool encode(const std::vector<Segment>& segments, const uint8_t* codes, size_t code_bytes, uint8_t* out, size_t* bytes,
              Scratch* scratch) const;
  // False: no stream of these codes. Reads nothing outside `in`, writes nothing outside `codes`.
  bool decode(const std::vector<Segment>& segments, const uint8_t* in, size_t bytes, uint8_t* codes, size_t code_bytes,
              Scratch* scratch) const;

 private:
  bool encode_rans(const uint8_t* codes, size_t count, uint8_t* out, size_t* bytes) const;
  bool decode_rans(const uint8_t* in, size_t bytes, uint8_t* codes, size_t count) const;
  bool decode_segments(const std::vector<Segment>& segments, const uint8_t* in, size_t bytes, uint8_t* codes) const;

  const Spec& spec_;
  const Isa isa_;
  RansColumns columns_;  // of static tables
};

// "" or why this host cannot do it.
const char* coder_problem(Coder coder);

}  // namespace kvferry::codec
