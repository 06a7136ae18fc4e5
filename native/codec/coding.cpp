#include "coding.h"

#include <cstring>
#include <memory>

#include "exponent.h"
#include "pack.h"
#include "planes.h"
#include "zstd.h"

namespace kvferry::codec {
namespace {

constexpr size_t kLengthBytes = 4;

size_t segment_bound(Coder coder, const Segment& segment) {
  if (coder == Coder::pack) return packed_bytes(packing_of(segment.levels), segment.count);
  return kLengthBytes + kRansTableBytesMax + rans_bound(segment.count);
}

}  // namespace

const char* coder_problem(Coder coder) {
  if (is_nvcomp(coder)) return "nvCOMP codes in the memory of GPUs alone";
  return coder == Coder::zstd || coder == Coder::planes ? zstd_problem() : "";
}

Coding::Coding(const Spec& spec, Isa isa) : spec_(spec), isa_(isa) {
  if (spec.coder == Coder::rans_static) RansColumns::make(gaussian_tables(), kGaussianTables, spec.classes.data(), spec.width(), &columns_);
}

uint32_t Coding::bits_in_place(const std::vector<Segment>& segments) const {
  if (spec_.coder == Coder::none) return 8;
  if (spec_.coder != Coder::pack || segments.size() != 1) return 0;
  const Packing packing = packing_of(segments[0].levels);
  if (packing.levels != 1u << packing.bytes) return 0;
  const bool is_whole = spec_.quantizer == Quantizer::group && spec_.channels * packing.bytes % 8 == 0;
  return packing.bytes == 8 || is_whole ? packing.bytes : 0;
}

size_t Coding::bound(const std::vector<Segment>& segments, size_t code_bytes) const {
  size_t sum = 0;
  switch (spec_.coder) {
    case Coder::none:
    case Coder::nvcomp_ans:
    case Coder::nvcomp_bitcomp: return code_bytes;
    case Coder::rans_static: return rans_bound(code_bytes);
    case Coder::exponent: return exponent_bound(code_bytes / spec_.row_bytes(), spec_.width());
    case Coder::planes:
    case Coder::zstd: return zstd_bound(code_bytes);
    case Coder::pack:
    case Coder::rans:
      for (const Segment& segment : segments) sum += segment_bound(spec_.coder, segment);
      return sum;
  }
  return sum;
}

bool Coding::encode(const std::vector<Segment>& segments, const uint8_t* codes, size_t code_bytes, uint8_t* out, size_t* bytes,
                    Scratch* scratch) const {
  *bytes = 0;
  if (code_bytes == 0) return true;
  const size_t element = element_bytes(spec_.element), rows = code_bytes / spec_.row_bytes();
  switch (spec_.coder) {
    case Coder::none: memcpy(out, codes, *bytes = code_bytes); return true;
    case Coder::rans_static: return rans_encode(codes, code_bytes / spec_.width(), columns_, out, bytes, isa_);
    case Coder::exponent: *bytes = exponent_encode(codes, rows, spec_.width(), out, *scratch, isa_); return true;
    case Coder::zstd: *bytes = zstd_encode(codes, code_bytes, spec_.level, out); return *bytes != 0;
    case Coder::planes: {
      uint8_t* planes = scratch->need(code_bytes);
      split_planes(codes, code_bytes / element, element, planes);
      *bytes = zstd_encode(planes, code_bytes, spec_.level, out);
      return *bytes != 0;
    }
    case Coder::nvcomp_ans:
    case Coder::nvcomp_bitcomp: return false;
    case Coder::pack:
    case Coder::rans: break;
  }
  for (const Segment& segment : segments) {
    if (spec_.coder == Coder::pack) {
      const Packing packing = packing_of(segment.levels);
      pack(packing, codes, segment.count, out + *bytes, isa_);
      *bytes += packed_bytes(packing, segment.count);
    } else {
      const bool is_last = &segment == &segments.back();
      uint8_t* to = out + *bytes + (is_last ? 0 : kLengthBytes);
      size_t length;
      if (!encode_rans(codes, segment.count, to, &length)) return false;
      for (size_t i = 0; i < kLengthBytes && !is_last; i++) out[*bytes + i] = uint8_t(length >> (8 * i));
      *bytes = size_t(to - out) + length;
    }
    codes += segment.count;
  }
  return true;
}

bool Coding::decode(const std::vector<Segment>& segments, const uint8_t* in, size_t bytes, uint8_t* codes, size_t code_bytes,
                    Scratch* scratch) const {
  if (code_bytes == 0) return bytes == 0;
  const size_t element = element_bytes(spec_.element), rows = code_bytes / spec_.row_bytes();
  switch (spec_.coder) {
    case Coder::none:
      if (bytes != code_bytes) return false;
      memcpy(codes, in, bytes);
      return true;
    case Coder::rans_static: return rans_decode(in, bytes, codes, code_bytes / spec_.width(), columns_, isa_);
    case Coder::exponent: return exponent_decode(in, bytes, codes, rows, spec_.width(), *scratch, isa_);
    case Coder::zstd: return zstd_decode(in, bytes, codes, code_bytes);
    case Coder::planes: {
      uint8_t* planes = scratch->need(code_bytes);
      if (!zstd_decode(in, bytes, planes, code_bytes)) return false;
      join_planes(planes, code_bytes / element, element, codes);
      return true;
    }
    case Coder::pack:
    case Coder::rans: return decode_segments(segments, in, bytes, codes);
    case Coder::nvcomp_ans:
    case Coder::nvcomp_bitcomp: return false;
  }
  return false;
}

bool Coding::decode_segments(const std::vector<Segment>& segments, const uint8_t* in, size_t bytes, uint8_t* codes) const {
  for (const Segment& segment : segments) {
    size_t length = bytes;
    if (spec_.coder == Coder::pack) {
      const Packing packing = packing_of(segment.levels);
      length = packed_bytes(packing, segment.count);
      if (length > bytes || !unpack(packing, in, length, codes, segment.count, isa_)) return false;
    } else {
      if (&segment != &segments.back()) {
        if (bytes < kLengthBytes) return false;
        length = in[0] | size_t(in[1]) << 8 | size_t(in[2]) << 16 | size_t(in[3]) << 24;
        in += kLengthBytes, bytes -= kLengthBytes;
      }
      if (length > bytes || !decode_rans(in, length, codes, segment.count)) return false;
    }
    in += length, bytes -= length, codes += segment.count;
  }
  return bytes == 0;
}

bool Coding::encode_rans(const uint8_t* codes, size_t count, uint8_t* out, size_t* bytes) const {
  uint32_t counts[kRansSymbols] = {};
  count_bytes(codes, count, counts);
  const auto table = std::make_unique<RansTable>();
  if (!RansTable::fit(counts, kRansSymbols, table.get())) return false;
  const size_t head = write_table(*table, out);
  if (!rans_encode(codes, count, RansColumns(*table), out + head, bytes, isa_)) return false;
  *bytes += head;
  return true;
}

bool Coding::decode_rans(const uint8_t* in, size_t bytes, uint8_t* codes, size_t count) const {
  const auto table = std::make_unique<RansTable>();
  const size_t head = read_table(in, bytes, table.get());
  return head != 0 && rans_decode(in + head, bytes - head, codes, count, RansColumns(*table), isa_);
}

}  // namespace kvferry::codec
