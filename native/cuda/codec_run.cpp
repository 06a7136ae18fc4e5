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
};

// Bytes of work memory: codes that lie nowhere else, escapes, angles.
size_t DeviceCodec::work_of(const Tile& tile, bool decodes) const {
  size_t bytes = aligned(size_t(tile.coded) * 2 * shape_.pairs * sizeof(float)) + aligned(tile.room * 8);
  if (decodes && needs_codes()) bytes += aligned(tile.coded * spec().width());
  return decodes ? bytes : bytes + exponent_bytes();
}

// Tiles in batches that fit into the work memory, which one uses after the other. False: a tile is too large.
bool DeviceCodec::plan(const std::vector<Tile>& tiles, bool decodes, std::vector<Batch>* batches) const {
  const size_t most = work_.bytes() - wave_bytes_;
  size_t used = most + 1;
  for (size_t at = 0; at < tiles.size(); at++) {
    const size_t need = work_of(tiles[at], decodes);
    const bool is_wide = wave_bytes_ > 0 && tiles[at].coded * spec().width() * bytes_in_wave(decodes) > wave_bytes_;
    if (need > most || is_wide) return false;
    if (used + need > most || batches->back().count == UINT16_MAX) {
      Batch batch = {};
      batch.begin = at;
      batches->push_back(batch);
      used = 0;
    }
    Batch& batch = batches->back();
    used += need;
    batch.count++;
    batch.coded_most = std::max(batch.coded_most, tiles[at].coded);
    batch.raw_most = std::max(batch.raw_most, tiles[at].tokens);
  }
  return true;
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
    if (!decodes || !needs_codes()) continue;
    tiles[at].codes = free;
    free += aligned(tiles[at].coded * spec().width());
  }
}

std::string DeviceCodec::run(const DevicePages& pages, std::vector<Tile>* tiles, std::vector<TileState>* states, size_t room, bool decodes) {
  if (tiles->empty()) return device_.wait();
  const DeviceMemory tiles_there(device_, tiles->size() * sizeof(Tile)), states_there(device_, tiles->size() * sizeof(TileState));
  if (work_.data() == nullptr || tiles_there.data() == nullptr || states_there.data() == nullptr) return "the device has too little memory";
  std::vector<Batch> batches;
  if (!plan(*tiles, decodes, &batches)) return "the tile is larger than a device's work memory";
  for (Batch& batch : batches) {
    batch.kv = pages.paged();
    batch.tiles = tiles_there.as<Tile>() + batch.begin, batch.states = states_there.as<TileState>() + batch.begin;
    batch.first = tiles->data() + batch.begin;
    batch.room = room;
    lay_out(&batch, tiles->data() + batch.begin, decodes);
  }
  device_.upload(tiles_there.data(), tiles->data(), tiles_there.bytes());
  device_.upload(states_there.data(), states->data(), states_there.bytes());
  device_.mark(0);
  for (const Batch& batch : batches) {
    if (decodes) {
      decode_batch(batch);
    } else {
      encode_batch(batch);
    }
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

// Codes to streams, or back.
void DeviceCodec::launch_coder(const Batch& batch, bool decodes) {
  const uint32_t width = uint32_t(spec().width());
  if (spec().coder == Coder::rans_static) {
    const RansArguments rans = {batch.tiles, batch.states, tables_, width, batch.room};
    launch(decodes ? Kernel::rans_decode : Kernel::rans_encode, batch.count, 1, rans);
  }
  if (is_exponent()) {
    const ExponentArguments exponent = {batch.tiles, batch.states, width, batch.room, batch.tables, exponent_bytes()};
    if (decodes) return launch(Kernel::exponent_decode, batch.count, 1, exponent, sizeof(DecodeMemory));
    launch(Kernel::exponent_front, batch.count, 1, exponent, uint32_t(sizeof(FrontMemory) + width * sizeof(uint32_t)));
    launch(Kernel::exponent_encode, batch.count, 1, exponent);
  }
  if (spec().quantizer != Quantizer::step) return;
  const EscapeArguments escapes = {batch.tiles, batch.states, uint32_t(spec().row_bytes())};
  launch(decodes ? Kernel::escapes_decode : Kernel::escapes_encode, batch.count, 1, escapes, (kEscapeThreads + 1) * sizeof(uint32_t));
}

void DeviceCodec::launch_raw(const Batch& batch, bool decodes) {
  const RawArguments raw = {shape_, batch.kv, batch.tiles, batch.states, decodes, codec::kHeaderBytes};
  launch(Kernel::raw, blocks_of(batch.raw_most), batch.count, raw);
}

void DeviceCodec::encode_batch(const Batch& batch) {
  launch_angles(batch);
  if (spec().klt_block != 0) {
    launch_waves(batch, false);
  } else {
    launch_rows(batch, false);
  }
  launch_coder(batch, false);
  const SealArguments sealed = {batch.tiles, batch.states, batch.count, uint32_t(spec().row_bytes()), identity()};
  launch(Kernel::seal, (batch.count + kEscapeThreads - 1) / kEscapeThreads, 1, sealed);
  launch_raw(batch, false);
}

void DeviceCodec::decode_batch(const Batch& batch) {
  // While stored tiles alone are marked.
  launch_raw(batch, true);
  launch_angles(batch);
  launch_coder(batch, true);
  if (spec().klt_block != 0) {
    launch_waves(batch, true);
  } else {
    launch_rows(batch, true);
  }
}

}  // namespace kvferry::cuda
