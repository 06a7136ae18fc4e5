#include "run.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>

#include "codec/rans.h"
#include "codec/tile.h"
#include "cuda/codec.h"

namespace kvferry::bench {
namespace {

using codec::Spec;
using cuda::DeviceCodec;
using cuda::DeviceMemory;
using cuda::DevicePages;
using cuda::TileSpan;

constexpr uint32_t kPageTokens = 16;
constexpr size_t kCheckedTiles = 3;

double median(std::vector<double> numbers) {
  std::sort(numbers.begin(), numbers.end());
  return numbers.empty() ? 0 : numbers[numbers.size() / 2];
}

// KV of many tokens: pages in any order, whose content is some tokens' again and again.
class Kv {
 public:
  Kv(const World& world, const Case& one)
      : device_(*world.device), spec_(one.spec), tokens_(tokens_of(world, one)), drawn_(std::min(tokens_, one.tile_tokens * 4)) {
    Random random;
    parts_ = one.draw(spec_, drawn_, &random);
    const uint32_t pages = tokens_ / kPageTokens;
    list_.resize(pages);
    for (uint32_t page = 0; page < pages; page++) list_[page] = page;
    for (uint32_t page = pages; page-- > 1;) std::swap(list_[page], list_[random.next() % (page + 1)]);
    memory_ = DeviceMemory(device_, tokens_ * spec_.row_bytes());
    back_ = DeviceMemory(device_, memory_.bytes());
    const size_t part_bytes = tokens_ * spec_.part_width() * 2, drawn_bytes = drawn_ * spec_.part_width() * 2;
    for (uint32_t part = 0; part < spec_.parts && is_there(); part++) {
      for (size_t at = 0; at < part_bytes; at += drawn_bytes) {
        device_.upload(memory_.data() + part * part_bytes + at, parts_[part].data(), std::min(drawn_bytes, part_bytes - at));
      }
    }
  }

  bool is_there() const { return memory_.data() != nullptr && back_.data() != nullptr; }
  uint32_t tokens() const { return tokens_; }
  DevicePages pages(bool is_back) const {
    std::vector<Plane> planes;
    const uint64_t head = spec_.channels * 2, token = spec_.heads * head;
    for (uint32_t part = 0; part < spec_.parts; part++) {
      Plane plane = {};
      plane.offset = part * tokens_ * token;
      plane.block_stride = kPageTokens * token, plane.token_stride = token, plane.head_stride = head, plane.channel_stride = 2;
      plane.tokens = kPageTokens, plane.heads = spec_.heads, plane.channels = spec_.channels, plane.element_bytes = 2;
      planes.push_back(plane);
    }
    return DevicePages(device_, is_back ? back_.data() : memory_.data(), planes, {list_});
  }
  // What a tile was drawn as, or what came back of it.
  std::vector<Values> tile(const TileSpan& span, bool is_back) const {
    std::vector<Values> found(spec_.parts, Values(span.tokens * spec_.part_width()));
    const size_t width = spec_.part_width();
    for (uint32_t part = 0; part < spec_.parts; part++) {
      for (uint32_t token = 0; token < span.tokens; token++) {
        const size_t place = list_[(span.token + token) / kPageTokens] * kPageTokens + (span.token + token) % kPageTokens;
        uint16_t* to = found[part].data() + token * width;
        if (is_back) {
          device_.download(to, back_.data() + (part * tokens_ + place) * width * 2, width * 2);
        } else {
          memcpy(to, parts_[part].data() + place % drawn_ * width, width * 2);
        }
      }
    }
    return found;
  }

 private:
  static uint32_t tokens_of(const World& world, const Case& one) {
    const uint64_t tokens = world.bytes / one.spec.row_bytes(), unit = uint64_t(one.tile_tokens) * kPageTokens;
    return uint32_t(std::max<uint64_t>(1, tokens / unit) * unit);
  }
  cuda::Device& device_;
  const Spec& spec_;
  const uint32_t tokens_, drawn_;
  std::vector<Values> parts_;
  std::vector<uint32_t> list_;
  DeviceMemory memory_, back_;
};

std::vector<uint8_t*> pointers_of(std::vector<Values>* parts) {
  std::vector<uint8_t*> found;
  for (Values& part : *parts) found.push_back(reinterpret_cast<uint8_t*>(part.data()));
  return found;
}

// A block against the CPU's, and what came back against what the CPU decodes.
std::string check_tile(const Case& one, const Kv& kv, const TileSpan& span, const std::vector<uint8_t>& block) {
  // No CPU reads nvCOMP's streams: what comes back is held against the same values without them.
  const bool is_nvcomp = codec::is_nvcomp(one.spec.coder);
  Spec spec = one.spec;
  if (is_nvcomp) spec.coder = codec::Coder::none;
  const codec::TileCodec oracle(spec, codec::best_isa());
  codec::Workspace space;
  std::vector<Values> original = kv.tile(span, false), decoded = original;
  const std::vector<Values> back = kv.tile(span, true);
  std::vector<uint8_t> expected(oracle.bound(span.tokens));
  if (one.is_exact) {
    const codec::Encoded made = oracle.encode(pointers_of(&original).data(), span.tokens, span.position, span.end, expected.data(), &space);
    expected.resize(made.bytes);
    if (!is_nvcomp && expected != block) return "a block differs from the CPU's";
  }
  const std::vector<uint8_t>& readable = is_nvcomp ? expected : block;
  if (one.is_exact || !is_nvcomp) {
    const std::string problem =
        oracle.decode(readable.data(), readable.size(), pointers_of(&decoded).data(), span.tokens, span.position, &space);
    if (!problem.empty()) return problem;
  } else {
    decoded = back;
  }
  if (one.is_exact) return back == decoded ? "" : "what came back differs from what the CPU decodes";
  double error = 0, loss = 0;
  float most = 0;
  size_t count = 0;
  for (size_t part = 0; part < back.size(); part++) {
    for (size_t at = 0; at < back[part].size(); at++, count++) {
      const float value = codec::from_bf16(decoded[part][at]);
      error = std::max(error, std::fabs(double(codec::from_bf16(back[part][at])) - value));
      loss += std::pow(double(codec::from_bf16(original[part][at])) - value, 2);
      most = std::max(most, std::fabs(value));
    }
  }
  if (!(error <= most * 0x1p-7)) return "what came back is further than a step of bf16 from what the CPU decodes";
  const double step = double(one.spec.steps[0]);
  return std::sqrt(loss / double(count)) < step ? "" : "what was encoded is further than a step from what it was";
}

// The slowest of nothing: an emulator has no speed.
double seconds_of(const World& world) { return world.gpu == nullptr ? 0 : world.gpu->milliseconds() / 1e3; }

}  // namespace

Result run_codec(const World& world, const Case& one) {
  Result result;
  result.name = one.name;
  result.problem = cuda::problem_on_device(one.spec);
  if (!result.problem.empty()) return result;
  std::unique_ptr<const cuda::Nvcomp> nvcomp;
  if (codec::is_nvcomp(one.spec.coder)) nvcomp = cuda::Nvcomp::open(one.spec, world.nvcomp, &result.problem);
  if (!result.problem.empty()) return result;
  const Kv kv(world, one);
  DeviceCodec codec(one.spec, *world.device, cuda::kWorkBytes, std::move(nvcomp));
  std::vector<TileSpan> spans;
  for (uint32_t token = 0; token < kv.tokens(); token += one.tile_tokens) spans.push_back({token, one.tile_tokens, token, kv.tokens()});
  const size_t room = codec.room(one.tile_tokens);
  const DeviceMemory blocks(*world.device, room * spans.size());
  if (!kv.is_there() || blocks.data() == nullptr) return result.problem = "the device has too little memory", result;
  const DevicePages from = kv.pages(false), to = kv.pages(true);
  std::vector<double> encoding, decoding;
  std::vector<codec::Encoded> made;
  std::vector<codec::Header> headers(spans.size());
  std::vector<const char*> problems;
  for (uint32_t round = 0; round < world.rounds && result.problem.empty(); round++) {
    result.problem = codec.encode(from, spans, blocks.data(), room, &made);
    encoding.push_back(seconds_of(world));
    std::vector<uint8_t> head(codec::kHeaderBytes);
    for (size_t at = 0; at < spans.size() && round == 0 && result.problem.empty(); at++) {
      world.device->download(head.data(), blocks.data() + at * room, head.size());
      // A header says how long its block is, which is not all here.
      const char* wrong = codec::read_header(head.data(), made[at].bytes, &headers[at]);
      result.problem = wrong != nullptr ? wrong : codec.problem_of_header(headers[at], spans[at]);
    }
    if (result.problem.empty()) result.problem = codec.decode(to, spans, headers, blocks.data(), room, &problems);
    decoding.push_back(seconds_of(world));
    for (const char* problem : problems) {
      if (*problem != '\0') result.problem = problem;
    }
  }
  result.bytes = kv.tokens() * one.spec.row_bytes();
  for (const codec::Encoded& block : made) result.coded_bytes += block.bytes;
  result.encode_seconds = median(encoding), result.decode_seconds = median(decoding);
  for (size_t at = 0; at < kCheckedTiles && result.problem.empty(); at++) {
    const size_t tile = at * (spans.size() - 1) / (kCheckedTiles - 1);
    std::vector<uint8_t> block(made[tile].bytes);
    world.device->download(block.data(), blocks.data() + tile * room, block.size());
    result.problem = check_tile(one, kv, spans[tile], block);
  }
  return result;
}

Result run_rans(const World& world) {
  Result result;
  result.name = "rans alone";
  // Tiles of a mebibyte of bf16; symbols as likely as their tables say.
  const uint32_t width = world.gpu == nullptr ? 320 : 5120, rows = (1u << 19) / 5120, count = rows * width;
  Spec spec;
  spec.parts = 1, spec.heads = width / 64, spec.channels = 64;
  spec.quantizer = codec::Quantizer::step, spec.coder = codec::Coder::rans_static;
  spec.steps.assign(width, 1.0f);
  for (uint32_t column = 0; column < width; column++) spec.classes.push_back(uint8_t(26 - column * 20 / width));
  DeviceCodec codec(spec, *world.device);
  const size_t tiles = std::max<uint64_t>(4, world.bytes / (size_t(count) * 2)), room = cuda::aligned(codec::kHeaderBytes + codec::rans_bound(count));
  Random random;
  std::vector<uint8_t> symbols(count);
  for (uint32_t at = 0; at < count; at++) symbols[at] = uint8_t(codec::gaussian_tables()[spec.classes[at % width]].decode[random.next() >> 20 & 4095]);
  const size_t stride = cuda::aligned(count);
  const DeviceMemory from(*world.device, tiles * stride), to(*world.device, tiles * stride), blocks(*world.device, tiles * room);
  const DeviceMemory tiles_there(*world.device, tiles * sizeof(cuda::Tile)), states_there(*world.device, tiles * sizeof(cuda::TileState));
  if (from.data() == nullptr || to.data() == nullptr || blocks.data() == nullptr) return result.problem = "the device has too little memory", result;
  std::vector<cuda::Tile> described(tiles);
  std::vector<cuda::TileState> states(tiles);
  for (size_t at = 0; at < tiles; at++) {
    world.device->upload(from.data() + at * stride, symbols.data(), count);
    described[at].block = blocks.data() + at * room, described[at].stream = described[at].block + codec::kHeaderBytes;
    described[at].codes = from.data() + at * stride, described[at].coded = rows;
  }
  const cuda::RansArguments arguments = {tiles_there.as<cuda::Tile>(), states_there.as<cuda::TileState>(), codec.tables(), width, room};
  const auto launch = [&](cuda::Kernel kernel) {
    std::vector<double> taken;
    for (uint32_t round = 0; round < world.rounds; round++) {
      world.device->upload(tiles_there.data(), described.data(), tiles_there.bytes());
      const std::vector<cuda::TileState> fresh(tiles);
      world.device->upload(states_there.data(), fresh.data(), states_there.bytes());
      world.device->mark(0);
      world.device->launch(kernel, {uint32_t(tiles), 1, 0}, &arguments);
      world.device->mark(1);
      taken.push_back(seconds_of(world));
    }
    world.device->download(states.data(), states_there.data(), states_there.bytes());
    return median(taken);
  };
  result.encode_seconds = launch(cuda::Kernel::rans_encode);
  for (size_t at = 0; at < tiles; at++) {
    described[at].codes = to.data() + at * stride;
    described[at].stream_bytes = states[at].stream_bytes;
    result.coded_bytes += states[at].stream_bytes;
  }
  result.decode_seconds = launch(cuda::Kernel::rans_decode);
  result.bytes = uint64_t(tiles) * count * 2;
  std::vector<uint8_t> back(count);
  world.device->download(back.data(), to.data() + (tiles - 1) * stride, count);
  result.problem = world.device->wait();
  const bool is_harmed = std::any_of(states.begin(), states.end(), [](const cuda::TileState& state) { return state.wrong != 0; });
  if (result.problem.empty() && (is_harmed || back != symbols)) result.problem = "the symbols did not come back";
  return result;
}

double copy_rate(const World& world) {
  const DeviceMemory from(*world.device, world.bytes), to(*world.device, world.bytes);
  if (world.gpu == nullptr || from.data() == nullptr || to.data() == nullptr) return 0;
  std::vector<double> taken;
  for (uint32_t round = 0; round < world.rounds + 2; round++) {
    world.gpu->mark(0);
    world.gpu->copy(to.data(), from.data(), world.bytes);
    world.gpu->mark(1);
    taken.push_back(world.gpu->milliseconds() / 1e3);
  }
  return 2 * double(world.bytes) / median(taken);
}

}  // namespace kvferry::bench
