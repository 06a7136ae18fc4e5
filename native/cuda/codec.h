// A codec on a device: tiles of paged KV to blocks and back, both in the device's memory, many tiles at once. The blocks are those of native/codec
// (schemas/codec.md), which decodes them, as this does those of native/codec.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "../codec/block.h"
#include "../codec/spec.h"
#include "../codec/tile.h"
#include "../core/runs.h"
#include "device.h"
#include "kernels.h"
#include "nvcomp.h"

namespace kvferry::cuda {

// "" or what of a spec is the CPU's alone, in words.
std::string problem_on_device(const codec::Spec& spec);

// Memory beyond pages, blocks and what a profile consists of (its matrices above all).
constexpr size_t kWorkBytes = 60 << 20;
// Tiles of one call.
constexpr size_t kTilesMax = 32768;

constexpr size_t kAlignment = 256;
constexpr size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// A tile of paged KV: `tokens` tokens from `token` of the planes' streams.
struct TileSpan {
  uint32_t token;
  uint32_t tokens, position;
  uint32_t end;  // behind the sequence
};

// Pages in a device's memory, and their description there. The memory is the caller's.
class DevicePages {
 public:
  // `planes` fit their blocks and the memory (plane_fits); a plane's block_list is its place in `lists`.
  DevicePages(Device& device, uint8_t* memory, const std::vector<Plane>& planes, const std::vector<std::vector<uint32_t>>& lists);
  const Paged& paged() const { return paged_; }

 private:
  DeviceMemory planes_, blocks_;
  Paged paged_;
};

class DeviceCodec {
 public:
  // `spec` has no problem, here neither; `device` outlives this. `nvcomp`: opened for the spec, if that asks for it.
  DeviceCodec(codec::Spec spec, Device& device, size_t work_bytes = kWorkBytes, std::unique_ptr<const Nvcomp> nvcomp = nullptr);

  const codec::Spec& spec() const { return tiles_.spec(); }
  uint64_t identity() const { return tiles_.identity(); }
  // Of rans-static, for measurements of the coder alone.
  const RansTables& tables() const { return tables_; }
  size_t work_bytes() const { return work_.bytes(); }
  // Bytes that a block has room in: a multiple of 256.
  size_t room(uint32_t tokens) const;
  // Block i goes to blocks + i * room. "" or why not; then nothing is known of the blocks.
  std::string encode(const DevicePages& pages, const std::vector<TileSpan>& spans, uint8_t* blocks, size_t room,
                     std::vector<codec::Encoded>* made);
  // Blocks that lie likewise; `headers` are theirs, as codec::read_header and `problem_of_header` took them. `problems`: "" or what is wrong with each;
  // pages of those hold anything.
  std::string decode(const DevicePages& pages, const std::vector<TileSpan>& spans, const std::vector<codec::Header>& headers,
                     const uint8_t* blocks, size_t room, std::vector<const char*>* problems);
  // "" or why this is no header of that tile, or nothing for a device.
  std::string problem_of_header(const codec::Header& header, const TileSpan& span) const;

 private:
  struct Batch;
  template <typename Number>
  const Number* keep(const std::vector<Number>& numbers);
  void keep_transform();
  void keep_quantizer();
  void keep_tables();
  Tile tile_of(const TileSpan& span, uint32_t recent) const;
  size_t front_of(const Tile& tile) const;
  void lay(Tile* tile, uint8_t* block) const;
  size_t work_of(const Tile& tile, bool decodes) const;
  size_t code_bytes(const Tile& tile) const;
  bool holds_codes(bool decodes) const;
  uint32_t fixed_stream(const Tile& tile) const;
  bool needs_codes() const;
  std::string run(const DevicePages& pages, std::vector<Tile>* tiles, std::vector<TileState>* states, size_t room, bool decodes);
  std::string plan(const std::vector<Tile>& tiles, bool decodes, std::vector<Batch>* batches) const;
  std::string nvcomp_work(const NvcompLists& lists, bool decodes, size_t* bytes) const;
  void lay_out(Batch* batch, Tile* tiles, bool decodes) const;
  bool list_streams(bool decodes, std::vector<Batch>* batches, DeviceMemory* memory) const;
  std::string encode_batch(const Batch& batch);
  std::string decode_batch(const Batch& batch);
  bool is_exponent() const;
  size_t exponent_bytes() const;
  uint32_t blocks_of(size_t rows) const;
  void launch_rows(const Batch& batch, bool decodes);
  void launch_waves(const Batch& batch, bool decodes);
  void launch_product(const Batch& batch, bool decodes, uint32_t first, uint32_t count, const WaveArguments& wave, uint32_t rows);
  void launch_angles(const Batch& batch);
  std::string launch_coder(const Batch& batch, bool decodes);
  std::string launch_nvcomp(const Batch& batch, bool decodes);
  void launch_raw(const Batch& batch, bool decodes);
  template <typename Arguments>
  void launch(Kernel kernel, uint32_t x, uint32_t y, const Arguments& arguments, uint32_t shared_bytes = 0);

  Device& device_;
  const codec::TileCodec tiles_;  // for its identity and bounds
  const std::unique_ptr<const Nvcomp> nvcomp_;
  const size_t wave_bytes_;       // of work memory: rows of a wave, f16, and while decoding floats too
  std::vector<DeviceMemory> kept_;
  Shape shape_ = {};
  const double* frequencies_ = nullptr;
  GroupArguments group_ = {};
  RowArguments row_ = {};
  RansTables tables_ = {};
  const uint16_t* matrices_ = nullptr;
  std::vector<uint32_t> head_at_;
  DeviceMemory work_;
};

}  // namespace kvferry::cuda
