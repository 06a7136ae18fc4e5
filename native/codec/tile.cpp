#include "tile.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

#include "../core/crc32c.h"

namespace kvferry::codec {
namespace {

// Rows `first` .. `first + count` of each part, one part after the other, to or from `at`. Returns where they end.
uint8_t* gather_parts(const Spec& spec, const uint8_t* const* parts, size_t first, size_t count, uint8_t* at) {
  const size_t row_bytes = spec.part_width() * element_bytes(spec.element);
  if (count == 0) return at;
  for (size_t part = 0; part < spec.parts; part++, at += count * row_bytes) memcpy(at, parts[part] + first * row_bytes, count * row_bytes);
  return at;
}

const uint8_t* scatter_parts(const Spec& spec, const uint8_t* at, uint8_t* const* parts, size_t first, size_t count) {
  const size_t row_bytes = spec.part_width() * element_bytes(spec.element);
  if (count == 0) return at;
  for (size_t part = 0; part < spec.parts; part++, at += count * row_bytes) memcpy(parts[part] + first * row_bytes, at, count * row_bytes);
  return at;
}

// The same row by row.
void gather_rows(const Spec& spec, const uint8_t* const* parts, size_t first, size_t count, uint8_t* at) {
  if (spec.parts == 1) return void(gather_parts(spec, parts, first, count, at));
  for (size_t row = first; row < first + count; row++) at = gather_parts(spec, parts, row, 1, at);
}

void scatter_rows(const Spec& spec, const uint8_t* at, uint8_t* const* parts, size_t first, size_t count) {
  if (spec.parts == 1) return void(scatter_parts(spec, at, parts, first, count));
  for (size_t row = first; row < first + count; row++) at = scatter_parts(spec, at, parts, row, 1);
}

}  // namespace

std::string name_of(uint64_t identity) {
  char name[17];
  snprintf(name, sizeof name, "%016llx", static_cast<unsigned long long>(identity));
  return name;
}

TileCodec::TileCodec(Spec spec, Isa isa)
    : spec_(std::move(spec)),
      identity_(identity_of(spec_)),
      transform_(spec_, kernels_of(isa)),
      quantization_(spec_, isa),
      coding_(spec_, isa) {}

bool TileCodec::takes(uint32_t tokens) const { return tokens <= kTokensMax && tokens * uint64_t(spec_.row_bytes()) <= kTileBytesMax; }

size_t TileCodec::bound(uint32_t tokens) const {
  // Without a side: a block that has more of it than was saved elsewhere is stored.
  const auto coded = [this](size_t rows) {
    return parameter_bytes(rows) + coding_.bound(quantization_.segments(rows), quantization_.code_bytes(rows));
  };
  // Where only some of the tokens are coded, what does not grow with them (a table, a last group that is not full) comes on top: of each set.
  const bool is_mixed = spec_.is_lossy() && (spec_.exempt > 0 || spec_.recent > 0);
  return kHeaderBytes + std::max(tokens * spec_.row_bytes(), coded(tokens)) + (is_mixed ? coded(spec_.anchor > 1 ? 2 : 1) : 0);
}

size_t TileCodec::parameter_bytes(size_t rows) const {
  size_t count = 0;
  for (const RowSet& set : row_sets(spec_, rows)) count += quantization_.parameter_count(set.count);
  return count * sizeof(uint16_t);
}

TileCodec::Share TileCodec::share(uint32_t tokens, uint32_t position, size_t recent) const {
  const size_t exempt = spec_.is_lossy() && position < spec_.exempt ? std::min(tokens, spec_.exempt - position) : 0;
  const size_t kept = std::min<size_t>(tokens - exempt, recent);
  return {exempt, tokens - exempt - kept, kept};
}

Encoded TileCodec::encode(const uint8_t* const* parts, uint32_t tokens, uint32_t position, uint32_t end, uint8_t* out,
                          Workspace* space) const {
  const uint64_t behind = uint64_t(position) + tokens;
  const uint64_t window = spec_.quantizer == Quantizer::group ? spec_.recent : 0;
  const uint64_t beyond = end > behind ? end - behind : 0;
  const Share shares = share(tokens, position, window > beyond ? window - beyond : 0);
  Header header;
  header.spec = identity_;
  header.tokens = tokens;
  header.position = position;
  header.recent = uint32_t(shares.recent);
  header.stored = encode_coded(parts, shares, position, out + kHeaderBytes, &header, space);
  if (header.stored != Stored::no) {
    header.recent = header.side = 0;
    header.payload = uint32_t(gather_parts(spec_, parts, 0, tokens, out + kHeaderBytes) - (out + kHeaderBytes));
  }
  const Encoded encoded = {kHeaderBytes + header.payload, header.stored};
  write_header(header, out);
  if (!spec_.verify) return encoded;
  header.flags = kHasChecksum;
  // What loses nothing decodes to what it was made of, or is found out by this.
  const bool is_exact = header.stored != Stored::no || !spec_.is_lossy();
  header.checksum = is_exact ? checksum(parts, tokens) : checksum_of_decoded(out, encoded.bytes, tokens, position, space);
  write_header(header, out);
  return encoded;
}

Stored TileCodec::encode_coded(const uint8_t* const* parts, const Share& share, uint32_t position, uint8_t* out, Header* header,
                               Workspace* space) const {
  const size_t raw = spec_.row_bytes() * (share.exempt + share.coded + share.recent);
  const size_t code_bytes = quantization_.code_bytes(share.coded), parameters = parameter_bytes(share.coded);
  const std::vector<Segment> segments = quantization_.segments(share.coded);
  uint8_t* at = gather_parts(spec_, parts, 0, share.exempt, out);
  at = gather_parts(spec_, parts, share.exempt + share.coded, share.recent, at);
  uint8_t* streams = at + parameters;
  Codes& codes = space->codes;
  codes.side.clear();
  codes.all_parameters.resize(parameters / sizeof(uint16_t));
  const bool is_plain = coding_.bits_in_place(segments) == 8;
  if (!is_plain && space->code_bytes.size() < code_bytes) space->code_bytes.resize(code_bytes);
  uint8_t* all_codes = is_plain ? streams : space->code_bytes.data();
  codes.codes = all_codes;
  if (const Stored stored = quantize(parts, share, position, space); stored != Stored::no) return stored;
  if (parameters > 0) memcpy(at, codes.all_parameters.data(), parameters);
  size_t bytes = code_bytes;
  const bool is_coded = is_plain || coding_.encode(segments, all_codes, code_bytes, streams, &bytes, &space->scratch);
  if (!is_coded) return Stored::incompressible;
  const size_t payload = size_t(streams - out) + bytes + codes.side.size();
  if (payload >= raw && raw > 0) return Stored::incompressible;
  if (!codes.side.empty()) memcpy(streams + bytes, codes.side.data(), codes.side.size());
  header->payload = uint32_t(payload);
  header->side = uint32_t(codes.side.size());
  return Stored::no;
}

Stored TileCodec::quantize(const uint8_t* const* parts, const Share& share, uint32_t position, Workspace* space) const {
  if (!spec_.is_lossy()) {
    gather_rows(spec_, parts, share.exempt, share.coded, space->codes.codes);
    return Stored::no;
  }
  Codes& codes = space->codes;
  codes.given = nullptr;
  codes.parameters = codes.all_parameters.data();
  for (const RowSet& set : row_sets(spec_, share.coded)) {
    const size_t band = quantization_.band(set.count);
    for (size_t first = 0; first < set.count; first += band) {
      const size_t count = std::min(band, set.count - first);
      float* values = transform_.forward(parts, share.exempt, set, first, count, position, &space->rows);
      const Stored stored = quantization_.encode(values, first, count, set, &codes);
      if (stored != Stored::no) return stored;
    }
    if (set.kind == RowSet::Kind::anchors) read_anchors(set, space);
    quantization_.pass(set, &codes);
  }
  return Stored::no;
}

// What the others are held against is what a decoder will have: then their errors do not add up.
void TileCodec::read_anchors(const RowSet& set, Workspace* space) const {
  Codes& codes = space->codes;
  codes.given = codes.codes;
  codes.bits = 8;
  codes.side_at = codes.side.data();
  codes.side_end = codes.side_at + codes.side.size();
  float* anchors = transform_.anchors(set.count, &space->rows);
  const size_t band = quantization_.decoding_band(set.count);
  for (size_t first = 0; first < set.count; first += band) {
    quantization_.decode(&codes, first, std::min(band, set.count - first), set, anchors + first * spec_.width());
  }
  codes.given = nullptr;
}

uint32_t TileCodec::checksum(const uint8_t* const* parts, uint32_t tokens) const {
  uint32_t crc = 0;
  for (size_t part = 0; part < spec_.parts; part++) crc = crc32c(crc, parts[part], part_bytes(tokens));
  return crc;
}

uint32_t TileCodec::checksum_of_decoded(const uint8_t* block, size_t bytes, uint32_t tokens, uint32_t position, Workspace* space) const {
  space->decoded.resize(tokens * spec_.row_bytes());
  std::vector<uint8_t*> parts;
  for (size_t part = 0; part < spec_.parts; part++) parts.push_back(space->decoded.data() + part * part_bytes(tokens));
  decode(block, bytes, parts.data(), tokens, position, space);
  return checksum(parts.data(), tokens);
}

std::string TileCodec::decode(const uint8_t* block, size_t bytes, uint8_t* const* parts, uint32_t tokens, uint32_t position,
                              Workspace* space) const {
  Header header;
  if (const char* problem = read_header(block, bytes, &header)) return problem;
  if (header.spec != identity_) {
    return "the block is of spec " + name_of(header.spec) + ", this is " + name_of(identity_);
  }
  if (header.tokens != tokens || header.position != position) {
    return "the block has " + std::to_string(header.tokens) + " tokens from position " + std::to_string(header.position) + ", expected " +
           std::to_string(tokens) + " from " + std::to_string(position);
  }
  if (header.stored != Stored::no) {
    if (header.payload != tokens * spec_.row_bytes() || header.recent != 0 || header.side != 0) return "the stored block has another size";
    scatter_parts(spec_, block + kHeaderBytes, parts, 0, tokens);
  } else {
    const Share shares = share(tokens, position, header.recent);
    const uint32_t window = spec_.quantizer == Quantizer::group ? spec_.recent : 0;
    if (shares.recent != header.recent || header.recent > window) return "the block keeps more tokens than the spec says";
    if (std::string problem = decode_coded(block + kHeaderBytes, header, parts, shares, space); !problem.empty()) return problem;
  }
  const bool is_right = (header.flags & kHasChecksum) == 0 ? header.checksum == 0 : header.checksum == checksum(parts, tokens);
  return is_right ? "" : "the block decodes to something else than was encoded";
}

std::string TileCodec::decode_coded(const uint8_t* payload, const Header& header, uint8_t* const* parts, const Share& share,
                                    Workspace* space) const {
  const size_t code_bytes = quantization_.code_bytes(share.coded), parameters = parameter_bytes(share.coded);
  const uint64_t fixed = spec_.row_bytes() * (share.exempt + share.recent) + parameters;
  if (fixed + header.side > header.payload) return "the block is shorter than what it holds";
  const uint8_t* at = scatter_parts(spec_, payload, parts, 0, share.exempt);
  at = scatter_parts(spec_, at, parts, share.exempt + share.coded, share.recent);
  Codes& codes = space->codes;
  codes.all_parameters.resize(parameters / sizeof(uint16_t));
  if (parameters > 0) memcpy(codes.all_parameters.data(), at, parameters);
  at += parameters;
  const size_t stream_bytes = header.payload - fixed - header.side;
  const std::vector<Segment> segments = quantization_.segments(share.coded);
  codes.bits = coding_.bits_in_place(segments);
  if (codes.bits != 0) {
    if (stream_bytes != code_bytes * codes.bits / 8) return "the block's codes do not decode";
    codes.given = at;
  } else {
    codes.bits = 8;
    if (space->code_bytes.size() < code_bytes) space->code_bytes.resize(code_bytes);
    codes.given = space->code_bytes.data();
    const bool decodes = coding_.decode(segments, at, stream_bytes, space->code_bytes.data(), code_bytes, &space->scratch);
    if (!decodes) return "the block's codes do not decode";
  }
  codes.side_at = at + stream_bytes;
  codes.side_end = codes.side_at + header.side;
  if (!dequantize(parts, share, header.position, space)) return "the block's escapes do not decode";
  return codes.side_at == codes.side_end ? "" : "the block has more escapes than codes for them";
}

bool TileCodec::dequantize(uint8_t* const* parts, const Share& share, uint32_t position, Workspace* space) const {
  if (!spec_.is_lossy()) {
    scatter_rows(spec_, space->codes.given, parts, share.exempt, share.coded);
    return true;
  }
  Codes& codes = space->codes;
  codes.codes = nullptr;
  codes.parameters = codes.all_parameters.data();
  for (const RowSet& set : row_sets(spec_, share.coded)) {
    const size_t band = quantization_.decoding_band(set.count);
    for (size_t first = 0; first < set.count; first += band) {
      const size_t count = std::min(band, set.count - first);
      float* values = transform_.room(count, &space->rows);
      if (!quantization_.decode(&codes, first, count, set, values)) return false;
      transform_.inverse(parts, share.exempt, set, first, count, position, &space->rows);
    }
    quantization_.pass(set, &codes);
  }
  return true;
}

}  // namespace kvferry::codec
