// What kernels run on which tiles, and in which memory.
#include <algorithm>
#include <utility>

#include "codec.h"

namespace kvferry::cuda {

using codec::Coder;

namespace {

// Of each value.
constexpr size_t bytes_in_wave(bool decodes) { return decodes ? sizeof(uint16_t) + sizeof(float) : sizeof(uint16_t); }

}  // namespace

// Tiles that are worked on together, and their work memory.
struct DeviceCodec::Batch {
  size_t begin;  // among the tiles of its call
  uint32_t count;
  Paged kv;
  const Tile* tiles;  // the device's
  TileState* states;
  const Tile* first;  // the same tiles here
  uint32_t coded_most, raw_most;  // tokens
  float* angles;
  uint8_t* waves;   // halves, then sums
  uint8_t* tables;  // of the lossless coder
  size_t room;
  // Of tiles with codes, for nvCOMP: which of the batch, its lists, and memory for it.
  const uint64_t* tile_of;
  NvcompLists lists;
  uint8_t* nvcomp;
  size_t nvcomp_bytes;
};

size_t DeviceCodec::code_bytes(const Tile& tile) const {
  return tile.coded * (spec().quantizer == Quantizer::none ? spec().row_bytes() : spec().width());
}

// Codes lie in work memory: what is decoded, and what nvCOMP encodes, which writes to the block meanwhile.
bool DeviceCodec::holds_codes(bool decodes) const { return decodes ? needs_codes() : nvcomp_ != nullptr; }

// Bytes of work memory: codes that lie nowhere else, escapes, angles.
size_t DeviceCodec::work_of(const Tile& tile, bool decodes) const {
  size_t bytes = aligned(size_t(tile.coded) * 2 * shape_.pairs * sizeof(float)) + aligned(tile.room * 8);
  if (holds_codes(decodes)) bytes += aligned(code_bytes(tile));
  return decodes ? bytes : bytes + exponent_bytes();
}

// What nvCOMP wants of it for so many tiles. "" or what it says instead.
std::string DeviceCodec::nvcomp_work(const NvcompLists& lists, bool decodes, size_t* bytes) const {
  *bytes = 0;
  if (lists.count == 0) return "";
  int status = 0;
  device_.with_stream([&](void* stream) { status = nvcomp_->work_bytes(decodes, lists.count, lists.most, lists.total, stream, bytes); });
  *bytes = aligned(std::min(*bytes, work_.bytes()));
  return status == 0 ? "" : nvcomp_->explain(status);
}

// Tiles in batches that fit into the work memory, which one uses after the other. "" or what does not fit.
std::string DeviceCodec::plan(const std::vector<Tile>& tiles, bool decodes, std::vector<Batch>* batches) const {
  const size_t most = work_.bytes() - wave_bytes_;
  size_t used = 0;
  for (size_t at = 0; at < tiles.size(); at++) {
    const size_t need = work_of(tiles[at], decodes), codes = nvcomp_ == nullptr ? 0 : code_bytes(tiles[at]);
    const bool is_wide = wave_bytes_ > 0 && tiles[at].coded * spec().width() * bytes_in_wave(decodes) > wave_bytes_;
    if (codes > kNvcompBytesMax) return "a tile's codes are more than nvCOMP takes at once";
    const auto with_codes = [codes](NvcompLists lists) {
      if (codes > 0) lists.count++, lists.most = std::max(lists.most, codes), lists.total += codes;
      return lists;
    };
    size_t beside = 0;
    NvcompLists lists = with_codes(batches->empty() ? NvcompLists{} : batches->back().lists);
    std::string problem = nvcomp_work(lists, decodes, &beside);
    if (batches->empty() || used + need + beside > most || batches->back().count == UINT16_MAX) {
      Batch batch = {};
      batch.begin = at;
      batches->push_back(batch);
      used = 0;
      lists = with_codes({});
      if (problem.empty()) problem = nvcomp_work(lists, decodes, &beside);
    }
    if (!problem.empty()) return problem;
    if (is_wide || used + need + beside > most) return "the tile is larger than a device's work memory";
    Batch& batch = batches->back();
    batch.lists = lists, batch.nvcomp_bytes = beside;
    used += need;
    batch.count++;
    batch.coded_most = std::max(batch.coded_most, tiles[at].coded);
    batch.raw_most = std::max(batch.raw_most, tiles[at].tokens);
  }
  return "";
}

// Where in the work memory everything of a batch lies.
void DeviceCodec::lay_out(Batch* batch, Tile* tiles, bool decodes) const {
  uint32_t rows = 0;
  for (uint32_t at = 0; at < batch->count; at++) tiles[at].row = rows, rows += tiles[at].coded;
  uint8_t* free = work_.data();
  batch->waves = free;
  free += wave_bytes_;
  batch->angles = reinterpret_cast<float*>(free);
  free += aligned(size_t(rows) * 2 * shape_.pairs * sizeof(float));
  batch->tables = free;
  free += decodes ? 0 : batch->count * exponent_bytes();
  for (uint32_t at = 0; at < batch->count; at++) {
    tiles[at].escapes = reinterpret_cast<uint32_t*>(free);
    free += aligned(tiles[at].room * 8);
    if (!holds_codes(decodes)) continue;
    tiles[at].codes = free;
    free += aligned(code_bytes(tiles[at]));
  }
  batch->nvcomp = free;
}

// nvCOMP's lists, of all batches; each gets where its own begin. False: there is no memory for them.
bool DeviceCodec::list_streams(bool decodes, std::vector<Batch>* batches, DeviceMemory* memory) const {
  size_t count = 0;
  for (const Batch& batch : *batches) count += batch.lists.count;
  if (count == 0) return true;
  // One list after the other; statuses last, none of which is right until the library says so.
  enum List : size_t { from, from_bytes, to, room, to_bytes, tile_of, all };
  std::vector<uint64_t> words(count * all);
  const std::vector<int32_t> statuses(count, -1);
  *memory = DeviceMemory(device_, words.size() * sizeof(uint64_t) + count * sizeof(int32_t));
  if (memory->data() == nullptr) return false;
  size_t at = 0;
  for (Batch& batch : *batches) {
    uint64_t* const there = memory->as<uint64_t>() + at;
    batch.tile_of = there + tile_of * count;
    batch.lists.from = reinterpret_cast<const void* const*>(there + from * count);
    batch.lists.to = reinterpret_cast<void* const*>(there + to * count);
    batch.lists.from_bytes = there + from_bytes * count;
    batch.lists.room = there + room * count;
    batch.lists.to_bytes = there + to_bytes * count;
    batch.lists.statuses = reinterpret_cast<int32_t*>(memory->as<uint64_t>() + count * all) + at;
    for (uint32_t index = 0; index < batch.count; index++) {
      const Tile& tile = batch.first[index];
      if (tile.coded == 0) continue;
      const uint64_t codes = reinterpret_cast<uintptr_t>(tile.codes), stream = reinterpret_cast<uintptr_t>(tile.stream);
      const size_t bytes = code_bytes(tile);
      words[from * count + at] = decodes ? stream : codes;
      words[from_bytes * count + at] = decodes ? tile.stream_bytes : bytes;
      words[to * count + at] = decodes ? codes : stream;
      words[room * count + at] = decodes ? bytes : nvcomp_->bound(bytes);
      words[tile_of * count + at++] = index;
    }
  }
  device_.upload(memory->data(), words.data(), words.size() * sizeof(uint64_t));
  device_.upload(memory->data() + words.size() * sizeof(uint64_t), statuses.data(), count * sizeof(int32_t));
  return true;
}

std::string DeviceCodec::run(const DevicePages& pages, std::vector<Tile>* tiles, std::vector<TileState>* states, size_t room, bool decodes) {
  if (tiles->empty()) return device_.wait();
  const DeviceMemory tiles_there(device_, tiles->size() * sizeof(Tile)), states_there(device_, tiles->size() * sizeof(TileState));
  if (work_.data() == nullptr || tiles_there.data() == nullptr || states_there.data() == nullptr) return "the device has too little memory";
  std::vector<Batch> batches;
  if (std::string problem = plan(*tiles, decodes, &batches); !problem.empty()) return problem;
  for (Batch& batch : batches) {
    batch.kv = pages.paged();
    batch.tiles = tiles_there.as<Tile>() + batch.begin, batch.states = states_there.as<TileState>() + batch.begin;
    batch.first = tiles->data() + batch.begin;
    batch.room = room;
    lay_out(&batch, tiles->data() + batch.begin, decodes);
  }
  DeviceMemory streams;
  if (!list_streams(decodes, &batches, &streams)) return "the device has too little memory";
  device_.upload(tiles_there.data(), tiles->data(), tiles_there.bytes());
  device_.upload(states_there.data(), states->data(), states_there.bytes());
  device_.mark(0);
  for (const Batch& batch : batches) {
    std::string problem = decodes ? decode_batch(batch) : encode_batch(batch);
    if (!problem.empty()) return problem;
  }
  device_.mark(1);
  device_.download(states->data(), states_there.data(), states_there.bytes());
  return device_.wait();
}

template <typename Arguments>
void DeviceCodec::launch(Kernel kernel, uint32_t x, uint32_t y, const Arguments& arguments, uint32_t shared_bytes) {
  if (x != 0 && y != 0) device_.launch(kernel, {x, y, shared_bytes}, &arguments);
}

// Of threads for so many rows of all heads.
uint32_t DeviceCodec::blocks_of(size_t rows) const {
  return uint32_t((rows * shape_.all_heads() * shape_.lanes() + kRowThreads - 1) / kRowThreads);
}

void DeviceCodec::launch_rows(const Batch& batch, bool decodes) {
  Shape shape = shape_;
  shape.angles = batch.angles;
  if (spec().quantizer != Quantizer::group) {
    RowArguments row = row_;
    row.shape = shape, row.kv = batch.kv, row.tiles = batch.tiles, row.states = batch.states;
    launch(decodes ? Kernel::row_decode : Kernel::row_encode, blocks_of(batch.coded_most), batch.count, row);
    return;
  }
  GroupArguments group = group_;
  group.shape = shape, group.kv = batch.kv, group.tiles = batch.tiles, group.states = batch.states;
  const uint32_t rows = group.range_rows == 0 ? std::max(1u, batch.coded_most) : group.range_rows;
  const size_t units = decodes ? batch.coded_most : (batch.coded_most + rows - 1) / rows;
  const Kernel encode = group.run == 1 ? Kernel::channel_encode : Kernel::group_encode;
  launch(decodes ? Kernel::group_decode : encode, blocks_of(units), batch.count, group);
}

// Rows of the wave times the matrices.
void DeviceCodec::launch_product(const Batch& batch, bool decodes, uint32_t first, uint32_t count, const WaveArguments& wave, uint32_t rows) {
  ProductArguments product = {};
  product.halves = wave.halves, product.matrices = matrices_, product.product = const_cast<float*>(wave.product);
  product.rows = rows, product.width = uint32_t(spec().width()), product.block = spec().klt_block;
  product.tiles = batch.tiles + first, product.states = batch.states + first, product.tile_count = count, product.first_row = wave.first_row;
  product.inverse_steps = row_.inverse_steps, product.symbols = row_.symbols;
  const uint32_t of_matrix = (product.block + kProductColumns - 1) / kProductColumns;
  launch(decodes ? Kernel::product_decode : Kernel::product_encode, (rows + kProductRows - 1) / kProductRows,
         product.width / product.block * of_matrix, product, sizeof(ProductMemory));
}

// Tiles of a batch with a KLT, as many together as their rows fit.
void DeviceCodec::launch_waves(const Batch& batch, bool decodes) {
  const size_t rows_most = wave_bytes_ / (spec().width() * bytes_in_wave(decodes));
  for (uint32_t first = 0, count = 0; first < batch.count; first += count) {
    uint32_t rows = 0, coded_most = 0;
    for (count = 0; first + count < batch.count && (count == 0 || rows + batch.first[first + count].coded <= rows_most); count++) {
      rows += batch.first[first + count].coded;
      coded_most = std::max(coded_most, batch.first[first + count].coded);
    }
    WaveArguments wave = {row_, batch.first[first].row, reinterpret_cast<uint16_t*>(batch.waves), nullptr};
    wave.row.shape = shape_, wave.row.shape.angles = batch.angles;
    wave.row.kv = batch.kv, wave.row.tiles = batch.tiles + first, wave.row.states = batch.states + first;
    wave.product = reinterpret_cast<const float*>(batch.waves + rows * spec().width() * sizeof(uint16_t));
    const uint32_t blocks = blocks_of(coded_most);
    launch(decodes ? Kernel::wave_unstep : Kernel::wave_forward, blocks, count, wave);
    launch_product(batch, decodes, first, count, wave, rows);
    if (decodes) launch(Kernel::wave_inverse, blocks, count, wave);
  }
}

void DeviceCodec::launch_angles(const Batch& batch) {
  if (shape_.pairs == 0) return;
  const AngleArguments angles = {batch.tiles, frequencies_, shape_.pairs, batch.angles};
  launch(Kernel::angles, (batch.coded_most * shape_.pairs + kRowThreads - 1) / kRowThreads, batch.count, angles);
}

// Codes to streams by nvCOMP, or back. "" or what it says instead.
std::string DeviceCodec::launch_nvcomp(const Batch& batch, bool decodes) {
  if (batch.lists.count == 0) return "";
  int status = 0;
  device_.with_stream([&](void* stream) { status = nvcomp_->run(decodes, batch.lists, batch.nvcomp, batch.nvcomp_bytes, stream); });
  if (status != 0) return nvcomp_->explain(status);
  const uint32_t count = uint32_t(batch.lists.count);
  const NvcompArguments taken = {batch.tiles, batch.states, batch.tile_of, batch.lists.to_bytes, batch.lists.room, batch.lists.statuses,
                                 count, uint32_t(spec().row_bytes()), decodes};
  launch(Kernel::nvcomp_take, (count + kEscapeThreads - 1) / kEscapeThreads, 1, taken);
  if (!decodes || spec().quantizer != Quantizer::step) return "";
  const FindArguments find = {batch.tiles, batch.states, uint32_t(spec().width())};
  launch(Kernel::escapes_find, batch.count, 1, find, (kEscapeThreads + 1) * sizeof(uint32_t));
  return "";
}

// Codes to streams, or back.
std::string DeviceCodec::launch_coder(const Batch& batch, bool decodes) {
  const uint32_t width = uint32_t(spec().width());
  if (std::string problem = nvcomp_ == nullptr ? "" : launch_nvcomp(batch, decodes); !problem.empty()) return problem;
  if (spec().coder == Coder::rans_static) {
    const RansArguments rans = {batch.tiles, batch.states, tables_, width, batch.room};
    launch(decodes ? Kernel::rans_decode : Kernel::rans_encode, batch.count, 1, rans);
  }
  if (is_exponent()) {
    const ExponentArguments exponent = {batch.tiles, batch.states, width, batch.room, batch.tables, exponent_bytes()};
    if (decodes) return launch(Kernel::exponent_decode, batch.count, 1, exponent, sizeof(DecodeMemory)), "";
    launch(Kernel::exponent_front, batch.count, 1, exponent, uint32_t(sizeof(FrontMemory) + width * sizeof(uint32_t)));
    launch(Kernel::exponent_encode, batch.count, 1, exponent);
  }
  if (spec().quantizer != Quantizer::step) return "";
  const EscapeArguments escapes = {batch.tiles, batch.states, uint32_t(spec().row_bytes())};
  launch(decodes ? Kernel::escapes_decode : Kernel::escapes_encode, batch.count, 1, escapes, (kEscapeThreads + 1) * sizeof(uint32_t));
  return "";
}

void DeviceCodec::launch_raw(const Batch& batch, bool decodes) {
  const RawArguments raw = {shape_, batch.kv, batch.tiles, batch.states, decodes, codec::kHeaderBytes};
  launch(Kernel::raw, blocks_of(batch.raw_most), batch.count, raw);
}

std::string DeviceCodec::encode_batch(const Batch& batch) {
  launch_angles(batch);
  if (spec().klt_block != 0) {
    launch_waves(batch, false);
  } else {
    launch_rows(batch, false);
  }
  if (std::string problem = launch_coder(batch, false); !problem.empty()) return problem;
  const SealArguments sealed = {batch.tiles, batch.states, batch.count, uint32_t(spec().row_bytes()), identity()};
  launch(Kernel::seal, (batch.count + kEscapeThreads - 1) / kEscapeThreads, 1, sealed);
  launch_raw(batch, false);
  return "";
}

std::string DeviceCodec::decode_batch(const Batch& batch) {
  // While stored tiles alone are marked.
  launch_raw(batch, true);
  launch_angles(batch);
  if (std::string problem = launch_coder(batch, true); !problem.empty()) return problem;
  if (spec().klt_block != 0) {
    launch_waves(batch, true);
  } else {
    launch_rows(batch, true);
  }
  return "";
}

}  // namespace kvferry::cuda
