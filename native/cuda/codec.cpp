#include "codec.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "../codec/pack.h"
#include "../codec/rans.h"

namespace kvferry::cuda {

using codec::Coder;
using codec::Header;
using codec::Spec;
using codec::Stored;

namespace {

// So many of a tile's values may escape; with more it is stored, whether or not it would shrink.
constexpr size_t kEscapeShare = 32, kEscapesLeast = 8192;

// Sums of that many columns fit into a block's shared memory.
constexpr size_t kExponentWidthMax = 8192;
bool is_power(uint32_t number) { return (number & (number - 1)) == 0; }

uint32_t power_above(size_t number) {
  uint32_t power = 1;
  while (power < number) power *= 2;
  return power;
}

Stored stored_of(uint32_t wrong) {
  if ((wrong & kNotFinite) != 0) return Stored::not_finite;
  if ((wrong & kOutOfRange) != 0) return Stored::out_of_range;
  return wrong != 0 ? Stored::incompressible : Stored::no;
}

const char* problem_of(uint32_t wrong) {
  if ((wrong & kHarmed) != 0) return "the block's codes do not decode";
  // The CPU, which multiplies floats, decodes it.
  return (wrong & kOutOfRange) != 0 ? "the block's values are beyond f16, in which a device multiplies" : "";
}

uint32_t run_of(const Spec& spec) {
  return spec.axis == Axis::channel ? 1 : spec.axis == Axis::token ? std::min(spec.group, spec.channels) : spec.channels;
}

std::string problem_of_groups(const Spec& spec) {
  const uint32_t run = run_of(spec);
  const bool is_shared = run == 1 || run == spec.channels || (run % kRun == 0 && is_power(run));
  if (!is_shared) return "groups are of a power of two of channels from 8 on, of 1, or of a whole head";
  if (codec::is_nvcomp(spec.coder)) return "";
  if (spec.coder != Coder::pack) return "groups go with pack or nvCOMP";
  for (const uint16_t levels : spec.levels) {
    if (codec::packing_of(levels).dense) return "levels are packed bit by bit";
  }
  return "";
}

}  // namespace

std::string problem_on_device(const Spec& spec) {
  if (spec.verify) return "checksums of decoded values are the CPU's";
  if (spec.channels % kRun != 0 || spec.channels > kRun * kWarp) return "channels are a multiple of 8 up to 256";
  if (spec.pairing == codec::Pairing::half && spec.inverse_frequencies.size() % kRun != 0) return "rope.inverseFrequencies is a multiple of 8";
  if (spec.anchor != 0) return "delta is the CPU's";
  const bool has_product = spec.klt_block != 0, is_nvcomp = codec::is_nvcomp(spec.coder);
  if (has_product && spec.quantizer != Quantizer::step) return "a KLT goes with steps";
  if (has_product && spec.klt_block % kRun != 0) return "klt.block is a multiple of 8";
  switch (spec.quantizer) {
    case Quantizer::group: return problem_of_groups(spec);
    case Quantizer::step:
      return spec.coder == Coder::rans_static || is_nvcomp ? "" : "steps go with rans-static or nvCOMP";
    case Quantizer::fp8:
      return spec.coder == Coder::none || spec.coder == Coder::pack || is_nvcomp ? "" : "fp8 goes with no codec, with pack or nvCOMP";
    case Quantizer::none:
      if (spec.coder == Coder::none || is_nvcomp) return "";
      if (spec.coder != Coder::exponent) return "values without a quantizer go with no codec, with exponent or nvCOMP";
      if (spec.is_lossy()) return "exponent goes without a transform";
      return spec.width() <= kExponentWidthMax ? "" : "exponent is for rows of up to 8192 values";
    case Quantizer::cachegen: return "cachegen is the CPU's";
  }
  return "no such quantizer";
}

DevicePages::DevicePages(Device& device, uint8_t* memory, const std::vector<Plane>& planes, const std::vector<std::vector<uint32_t>>& lists) {
  std::vector<uint32_t> blocks, begins;
  for (const auto& list : lists) {
    begins.push_back(uint32_t(blocks.size()));
    blocks.insert(blocks.end(), list.begin(), list.end());
  }
  std::vector<PagedPlane> described;
  for (const Plane& plane : planes) {
    described.push_back({plane.offset, plane.block_stride, plane.token_stride, plane.head_stride, plane.channel_stride, plane.tokens,
                         plane.first_token, begins[plane.block_list], 0});
  }
  planes_ = DeviceMemory(device, described.size() * sizeof(PagedPlane));
  blocks_ = DeviceMemory(device, blocks.size() * sizeof(uint32_t));
  device.upload(planes_.data(), described.data(), planes_.bytes());
  device.upload(blocks_.data(), blocks.data(), blocks_.bytes());
  paged_ = {memory, planes_.as<PagedPlane>(), blocks_.as<uint32_t>()};
}

DeviceCodec::DeviceCodec(Spec spec, Device& device, size_t work_bytes, std::unique_ptr<const Nvcomp> nvcomp)
    : device_(device),
      tiles_(std::move(spec), codec::Isa::scalar),
      nvcomp_(std::move(nvcomp)),
      wave_bytes_(tiles_.spec().klt_block == 0 ? 0 : aligned(work_bytes * 2 / 5)) {
  const Spec& own = tiles_.spec();
  shape_.element = own.element;
  shape_.parts = own.parts, shape_.heads = own.heads, shape_.channels = own.channels;
  while (shape_.lanes() * kRun < own.channels) shape_.lanes_log++;
  keep_transform();
  keep_quantizer();
  if (own.coder == Coder::rans_static) keep_tables();
  work_ = DeviceMemory(device, work_bytes);
}

template <typename Number>
const Number* DeviceCodec::keep(const std::vector<Number>& numbers) {
  kept_.emplace_back(device_, numbers.size() * sizeof(Number));
  device_.upload(kept_.back().data(), numbers.data(), kept_.back().bytes());
  return kept_.back().as<Number>();
}

void DeviceCodec::keep_transform() {
  const Spec& own = spec();
  shape_.pairs = uint32_t(own.inverse_frequencies.size());
  shape_.pairing = own.pairing;
  frequencies_ = keep(std::vector<double>(own.inverse_frequencies.begin(), own.inverse_frequencies.end()));
  shape_.norm = 1 / std::sqrt(float(own.channels));
  if (!own.mean.empty() || !own.scale.empty()) {
    const std::vector<float> scale = own.scale.empty() ? std::vector<float>(own.width(), 1.0f) : own.scale;
    std::vector<float> unscale;
    for (const float one : scale) unscale.push_back(1 / one);
    shape_.mean = keep(own.mean.empty() ? std::vector<float>(own.width(), 0.0f) : own.mean);
    shape_.scale = keep(scale);
    shape_.unscale = keep(unscale);
  }
  if (!own.signs.empty()) shape_.signs = keep(std::vector<float>(own.signs.begin(), own.signs.end()));
  if (own.klt_block == 0) return;
  std::vector<uint16_t> halves;
  halves.reserve(own.matrices.size());
  for (const float number : own.matrices) halves.push_back(codec::to_f16(number));
  matrices_ = keep(halves);
}

void DeviceCodec::keep_quantizer() {
  const Spec& own = spec();
  row_.code = own.quantizer == Quantizer::step  ? RowCode::step
              : own.quantizer == Quantizer::fp8 ? RowCode::fp8
              : own.coder == Coder::exponent    ? RowCode::halves
                                                : RowCode::element;
  row_.format = own.format;
  if (own.quantizer == Quantizer::step) {
    std::vector<float> inverse;
    for (const float step : own.steps) inverse.push_back(1 / step);
    std::vector<uint32_t> symbols(own.width(), codec::kEscape);
    for (size_t column = 0; column < own.classes.size(); column++) symbols[column] = codec::gaussian_symbols(own.classes[column]);
    row_.steps = keep(own.steps);
    row_.inverse_steps = keep(inverse);
    row_.symbols = keep(symbols);
  }
  if (own.quantizer != Quantizer::group) return;
  std::vector<uint8_t> bits;
  head_at_.push_back(0);
  for (const uint16_t levels : own.levels) {
    bits.push_back(nvcomp_ != nullptr ? 8 : uint8_t(codec::packing_of(levels).bytes));
    head_at_.push_back(head_at_.back() + own.channels / 8 * bits.back());
  }
  group_.axis = own.axis;
  group_.range_rows = own.axis == Axis::token ? 1 : own.axis == Axis::channel ? own.group : 0;
  group_.run = run_of(own);
  group_.bits = keep(bits);
  group_.levels = keep(own.levels);
  group_.head_at = keep(head_at_);
}

void DeviceCodec::keep_tables() {
  std::vector<uint8_t> slots(codec::kGaussianTables * kRansTotal);
  std::vector<uint32_t> entries(codec::kGaussianTables * kRansSymbols);
  for (size_t table = 0; table < codec::kGaussianTables; table++) {
    const codec::RansTable& from = codec::gaussian_tables()[table];
    std::copy(from.encode, from.encode + kRansSymbols, entries.data() + table * kRansSymbols);
    for (size_t slot = 0; slot < kRansTotal; slot++) slots[table * kRansTotal + slot] = uint8_t(from.decode[slot]);
  }
  tables_ = {keep(slots), keep(entries), keep(spec().classes), uint32_t(spec().width())};
}

// What nvCOMP may write comes on top, however much of a tile is coded.
size_t DeviceCodec::room(uint32_t tokens) const {
  Tile tile = {};
  tile.coded = tokens;
  const size_t stream = nvcomp_ == nullptr ? 0 : nvcomp_->bound(std::min(code_bytes(tile), kNvcompBytesMax));
  return aligned(tiles_.bound(tokens) + kAlignment + stream);
}

// Codes are no stream yet.
bool DeviceCodec::needs_codes() const { return spec().coder == Coder::rans_static || is_exponent() || nvcomp_ != nullptr; }

bool DeviceCodec::is_exponent() const { return spec().coder == Coder::exponent; }

size_t DeviceCodec::exponent_bytes() const { return is_exponent() ? aligned(sizeof(ExponentTables) + spec().width()) : 0; }

// Bytes of codes whose number follows from their count.
uint32_t DeviceCodec::fixed_stream(const Tile& tile) const {
  if (spec().quantizer == Quantizer::group) return tile.coded * head_at_.back();
  if (spec().quantizer == Quantizer::none) return uint32_t(tile.coded * spec().row_bytes());
  return uint32_t(tile.coded * spec().width());
}

Tile DeviceCodec::tile_of(const TileSpan& span, uint32_t recent) const {
  const Spec& own = spec();
  Tile tile = {};
  tile.token = span.token, tile.tokens = span.tokens, tile.position = span.position;
  tile.exempt = own.is_lossy() && span.position < own.exempt ? std::min(span.tokens, own.exempt - span.position) : 0;
  tile.recent = std::min(span.tokens - tile.exempt, recent);
  tile.coded = span.tokens - tile.exempt - tile.recent;
  if (nvcomp_ != nullptr && tile.coded > 0) tile.padding = uint32_t(-front_of(tile) % kNvcompAlignment);
  return tile;
}

// Of a block, what lies in front of its stream, padding aside: header, tokens that travel as they are, parameters.
size_t DeviceCodec::front_of(const Tile& tile) const {
  const size_t kept = codec::kHeaderBytes + (tile.exempt + tile.recent) * spec().row_bytes();
  if (spec().quantizer != Quantizer::group) return kept;
  const uint32_t rows = group_.range_rows == 0 ? std::max(1u, tile.coded) : group_.range_rows;
  const size_t ranges = size_t(shape_.all_heads()) * ((spec().channels + group_.run - 1) / group_.run);
  return kept + (tile.coded + rows - 1) / rows * ranges * 4;
}

void DeviceCodec::lay(Tile* tile, uint8_t* block) const {
  tile->block = block;
  tile->codes = tile->stream = block + front_of(*tile) + tile->padding;
  if (!is_exponent()) return;
  // Behind what the stream has in front of it at most. A coder writes downwards from where the longest stream of these codes ends if it begins with them, so that it
  // never reaches codes that it has yet to read.
  const size_t front = codec::exponent_bound(tile->coded, spec().width()) - codec::rans_bound(tile->coded * spec().width());
  tile->codes += (front + kRun - 1) / kRun * kRun;
}

std::string DeviceCodec::encode(const DevicePages& pages, const std::vector<TileSpan>& spans, uint8_t* blocks, size_t room,
                                std::vector<codec::Encoded>* made) {
  std::vector<Tile> tiles;
  std::vector<TileState> states;
  for (const TileSpan& span : spans) {
    const uint64_t behind = uint64_t(span.position) + span.tokens, beyond = span.end > behind ? span.end - behind : 0;
    const uint32_t window = spec().quantizer == Quantizer::group ? spec().recent : 0;
    Tile tile = tile_of(span, window > beyond ? uint32_t(window - beyond) : 0);
    lay(&tile, blocks + tiles.size() * room);
    if (spec().quantizer == Quantizer::step) {
      const size_t values = tile.coded * spec().width();
      tile.room = power_above(std::max(std::min(values, kEscapesLeast), values / kEscapeShare));
    }
    states.push_back({0, 0, needs_codes() ? 0 : fixed_stream(tile), 0});
    tiles.push_back(tile);
  }
  if (std::string problem = run(pages, &tiles, &states, room, false); !problem.empty()) return problem;
  made->clear();
  for (size_t at = 0; at < tiles.size(); at++) {
    const Tile& tile = tiles[at];
    const TileState& state = states[at];
    const size_t coded = size_t(tile.stream - tile.block) + state.stream_bytes + state.side_bytes;
    const size_t whole = codec::kHeaderBytes + tile.tokens * spec().row_bytes();
    made->push_back({state.wrong == 0 ? coded : whole, stored_of(state.wrong)});
  }
  return "";
}

std::string DeviceCodec::problem_of_header(const Header& header, const TileSpan& span) const {
  if (header.spec != identity()) return "the block is of another spec";
  if (header.tokens != span.tokens || header.position != span.position) return "the block is of another tile";
  if ((header.flags & codec::kHasChecksum) != 0 || header.checksum != 0) return "checksums of decoded values are the CPU's";
  if (header.stored != Stored::no) {
    const bool is_whole = header.payload == span.tokens * spec().row_bytes() && header.recent == 0 && header.side == 0;
    return is_whole ? "" : "the stored block has another size";
  }
  const uint32_t window = spec().quantizer == Quantizer::group ? spec().recent : 0;
  const Tile tile = tile_of(span, header.recent);
  if (header.recent > window || tile.recent != header.recent) return "the block keeps more tokens than the spec says";
  const uint64_t fixed = front_of(tile) + tile.padding - codec::kHeaderBytes;
  if (fixed + header.side > header.payload) return "the block is shorter than what it holds";
  const uint64_t stream = header.payload - fixed - header.side;
  bool is_right = needs_codes() ? (stream > 0) == (tile.coded > 0) : stream == fixed_stream(tile);
  if (nvcomp_ != nullptr) is_right = is_right && stream <= nvcomp_->bound(code_bytes(tile));
  // Signs and mantissas begin it, and are read whatever becomes of the exponents.
  if (is_exponent()) is_right = is_right && stream >= tile.coded * spec().width();
  if (!is_right || (header.side != 0 && spec().quantizer != Quantizer::step)) return "the block's codes do not decode";
  // Escapes that a device has no memory for.
  Tile with_room = tile;
  with_room.room = header.side;
  return work_of(with_room, true) <= work_.bytes() - wave_bytes_ ? "" : "the tile is larger than a device's work memory";
}

std::string DeviceCodec::decode(const DevicePages& pages, const std::vector<TileSpan>& spans, const std::vector<Header>& headers,
                                const uint8_t* blocks, size_t room, std::vector<const char*>* problems) {
  std::vector<Tile> tiles;
  std::vector<TileState> states;
  for (size_t at = 0; at < spans.size(); at++) {
    // Kernels that decode write to no block.
    Tile tile = tile_of(spans[at], headers[at].recent);
    lay(&tile, const_cast<uint8_t*>(blocks) + at * room);
    tile.side_bytes = tile.room = headers[at].side;
    tile.stream_bytes = headers[at].payload - uint32_t(tile.stream - tile.block - codec::kHeaderBytes) - headers[at].side;
    const bool is_stored = headers[at].stored != Stored::no;
    if (is_stored) tile.coded = tile.exempt = tile.recent = tile.room = tile.side_bytes = 0;
    states.push_back({is_stored ? kIncompressible : 0, 0, 0, 0});
    tiles.push_back(tile);
  }
  if (std::string problem = run(pages, &tiles, &states, room, true); !problem.empty()) return problem;
  problems->clear();
  for (const TileState& state : states) problems->push_back(problem_of(state.wrong));
  return "";
}

}  // namespace kvferry::cuda
