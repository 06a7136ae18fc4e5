// What goes in and what comes out is copied to and from memory of exactly its size, so that a build that watches its memory sees each byte
// beyond it.
#include "codec_coders.h"

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "../codec/exponent.h"
#include "../codec/pack.h"
#include "../codec/planes.h"
#include "../codec/rans.h"
#include "../codec/zstd.h"

namespace kvferry {
namespace {

using namespace codec;

struct Memory {
  explicit Memory(size_t count) : bytes(new uint8_t[count]), count(count) {}
  std::unique_ptr<uint8_t[]> bytes;
  size_t count;
  uint8_t* data() const { return bytes.get(); }
};

// Arguments in their order. A wrong one throws into JavaScript, and `failed` stays true.
class Taken {
 public:
  explicit Taken(const Napi::CallbackInfo& info) : info_(info) {}
  bool failed() const { return failed_; }

  Memory bytes(size_t index) {
    if (!is_array(index, napi_uint8_array)) return fail("a Uint8Array"), Memory(0);
    const auto array = info_[index].As<Napi::Uint8Array>();
    Memory memory(array.ByteLength());
    if (memory.count > 0) memcpy(memory.data(), array.Data(), memory.count);
    return memory;
  }

  template <typename Number, napi_typedarray_type type>
  std::vector<Number> numbers(size_t index) {
    if (!is_array(index, type)) return fail("an array of numbers"), std::vector<Number>();
    const auto array = info_[index].As<Napi::TypedArrayOf<Number>>();
    return std::vector<Number>(array.Data(), array.Data() + array.ElementLength());
  }

  size_t number(size_t index, double most) {
    const double value = info_[index].IsNumber() ? info_[index].As<Napi::Number>().DoubleValue() : -1;
    if (!(value >= 0 && value <= most && value == double(size_t(value)))) return fail("a number within its bounds"), 0;
    return size_t(value);
  }

  Isa isa(size_t index) {
    Isa isa = Isa::scalar;
    const bool known = info_[index].IsString() && isa_by_name(info_[index].As<Napi::String>().Utf8Value().c_str(), &isa);
    if (!known) fail("a name of codecCoders.isas");
    return isa;
  }

  // 256 frequencies of each table, and which column has which.
  bool columns(size_t index, std::vector<RansTable>* tables, RansColumns* columns) {
    const auto frequencies = numbers<uint16_t, napi_uint16_array>(index);
    const Memory table_of = bytes(index + 1);
    if (failed_) return false;
    tables->resize(frequencies.size() / kRansSymbols);
    bool good = frequencies.size() % kRansSymbols == 0;
    for (size_t at = 0; good && at < tables->size(); at++) {
      good = RansTable::make(frequencies.data() + at * kRansSymbols, kRansSymbols, &(*tables)[at]);
    }
    good = good && RansColumns::make(tables->data(), tables->size(), table_of.data(), table_of.count, columns);
    if (!good) fail("tables that sum to 4096, and columns that have one");
    return good;
  }

 private:
  bool is_array(size_t index, napi_typedarray_type type) const {
    return !failed_ && info_[index].IsTypedArray() && info_[index].As<Napi::TypedArray>().TypedArrayType() == type;
  }

  void fail(const char* wanted) {
    if (!failed_) Napi::TypeError::New(info_.Env(), std::string("codecCoders expected ") + wanted).ThrowAsJavaScriptException();
    failed_ = true;
  }

  const Napi::CallbackInfo& info_;
  bool failed_ = false;
};

// Of one value; what a test asks for is small.
constexpr double kCountMost = 1 << 24, kWidthMost = 1 << 14;

Napi::Value copied(Napi::Env env, const uint8_t* bytes, size_t count) {
  auto array = Napi::Uint8Array::New(env, count);
  if (count > 0) memcpy(array.Data(), bytes, count);
  return array;
}

// symbols, frequencies, table of each column, isa
Napi::Value encode_rans(const Napi::CallbackInfo& info) {
  Taken taken(info);
  std::vector<RansTable> tables;
  RansColumns columns;
  const Memory symbols = taken.bytes(0);
  const Isa isa = taken.isa(3);
  if (taken.failed() || !taken.columns(1, &tables, &columns)) return info.Env().Undefined();
  const size_t rows = symbols.count / columns.width();
  const Memory out(rans_bound(rows * columns.width()));
  size_t bytes;
  if (!rans_encode(symbols.data(), rows, columns, out.data(), &bytes, isa)) return info.Env().Undefined();
  return copied(info.Env(), out.data(), bytes);
}

// stream, rows, frequencies, table of each column, isa
Napi::Value decode_rans(const Napi::CallbackInfo& info) {
  Taken taken(info);
  std::vector<RansTable> tables;
  RansColumns columns;
  const Memory in = taken.bytes(0);
  const size_t rows = taken.number(1, kCountMost);
  const Isa isa = taken.isa(4);
  if (taken.failed() || !taken.columns(2, &tables, &columns)) return info.Env().Undefined();
  const Memory symbols(rows * columns.width());
  if (!rans_decode(in.data(), in.count, symbols.data(), rows, columns, isa)) return info.Env().Undefined();
  return copied(info.Env(), symbols.data(), symbols.count);
}

Napi::Value frequencies_of(Napi::Env env, const RansTable* tables, size_t count) {
  auto array = Napi::Uint16Array::New(env, count * kRansSymbols);
  for (size_t at = 0; at < count * kRansSymbols; at++) array[at] = uint16_t(tables[at / kRansSymbols].frequency(at % kRansSymbols));
  return array;
}

// counts
Napi::Value fit_table(const Napi::CallbackInfo& info) {
  Taken taken(info);
  const auto counts = taken.numbers<uint32_t, napi_uint32_array>(0);
  RansTable table;
  if (taken.failed() || !RansTable::fit(counts.data(), uint32_t(counts.size()), &table)) return info.Env().Undefined();
  return frequencies_of(info.Env(), &table, 1);
}

// frequencies
Napi::Value write_one(const Napi::CallbackInfo& info) {
  Taken taken(info);
  const auto frequencies = taken.numbers<uint16_t, napi_uint16_array>(0);
  RansTable table;
  if (taken.failed() || !RansTable::make(frequencies.data(), uint32_t(frequencies.size()), &table)) return info.Env().Undefined();
  const Memory out(kRansTableBytesMax);
  return copied(info.Env(), out.data(), write_table(table, out.data()));
}

// bytes; the frequencies, and how many bytes they took
Napi::Value read_one(const Napi::CallbackInfo& info) {
  Taken taken(info);
  const Memory in = taken.bytes(0);
  RansTable table;
  const size_t bytes = taken.failed() ? 0 : read_table(in.data(), in.count, &table);
  if (bytes == 0) return info.Env().Undefined();
  Napi::Object found = Napi::Object::New(info.Env());
  found.Set("frequencies", frequencies_of(info.Env(), &table, 1));
  found.Set("bytes", double(bytes));
  return found;
}

Napi::Value gaussians(const Napi::CallbackInfo& info) {
  Napi::Object found = Napi::Object::New(info.Env());
  auto symbols = Napi::Uint32Array::New(info.Env(), kGaussianTables);
  for (size_t table = 0; table < kGaussianTables; table++) symbols[table] = gaussian_symbols(table);
  found.Set("symbols", symbols);
  found.Set("frequencies", frequencies_of(info.Env(), gaussian_tables(), kGaussianTables));
  return found;
}

// values, columns, isa
Napi::Value encode_exponents(const Napi::CallbackInfo& info) {
  Taken taken(info);
  const Memory values = taken.bytes(0);
  const size_t width = taken.number(1, kWidthMost);
  const Isa isa = taken.isa(2);
  if (taken.failed() || width == 0) return info.Env().Undefined();
  Scratch scratch;
  const size_t rows = values.count / 2 / width;
  const Memory out(exponent_bound(rows, width));
  return copied(info.Env(), out.data(), exponent_encode(values.data(), rows, width, out.data(), scratch, isa));
}

// block, rows, columns, isa
Napi::Value decode_exponents(const Napi::CallbackInfo& info) {
  Taken taken(info);
  const Memory in = taken.bytes(0);
  const size_t rows = taken.number(1, kCountMost), width = taken.number(2, kWidthMost);
  const Isa isa = taken.isa(3);
  if (taken.failed() || width == 0) return info.Env().Undefined();
  Scratch scratch;
  const Memory values(2 * rows * width);
  if (!exponent_decode(in.data(), in.count, values.data(), rows, width, scratch, isa)) return info.Env().Undefined();
  return copied(info.Env(), values.data(), values.count);
}

// levels, codes, isa
Napi::Value pack_codes(const Napi::CallbackInfo& info) {
  Taken taken(info);
  const size_t levels = taken.number(0, 256);
  const Memory codes = taken.bytes(1);
  const Isa isa = taken.isa(2);
  if (taken.failed() || levels < 2) return info.Env().Undefined();
  const Packing packing = packing_of(uint32_t(levels));
  const Memory out(packed_bytes(packing, codes.count));
  pack(packing, codes.data(), codes.count, out.data(), isa);
  return copied(info.Env(), out.data(), out.count);
}

// levels, bytes, codes, isa
Napi::Value unpack_codes(const Napi::CallbackInfo& info) {
  Taken taken(info);
  const size_t levels = taken.number(0, 256);
  const Memory in = taken.bytes(1);
  const Memory codes(taken.number(2, kCountMost));
  const Isa isa = taken.isa(3);
  if (taken.failed() || levels < 2) return info.Env().Undefined();
  const Packing packing = packing_of(uint32_t(levels));
  if (!unpack(packing, in.data(), in.count, codes.data(), codes.count, isa)) return info.Env().Undefined();
  return copied(info.Env(), codes.data(), codes.count);
}

// bytes, bytes of an element
template <void (*move)(const uint8_t*, size_t, size_t, uint8_t*)>
Napi::Value move_planes(const Napi::CallbackInfo& info) {
  Taken taken(info);
  const Memory from = taken.bytes(0);
  const size_t element_bytes = taken.number(1, 8);
  if (taken.failed() || element_bytes == 0 || from.count % element_bytes != 0) return info.Env().Undefined();
  const Memory to(from.count);
  move(from.data(), from.count / element_bytes, element_bytes, to.data());
  return copied(info.Env(), to.data(), to.count);
}

Napi::Value find_zstd(const Napi::CallbackInfo& info) {
  Napi::Object found = Napi::Object::New(info.Env());
  found.Set("version", zstd_version());
  found.Set("problem", zstd_problem());
  return found;
}

// bytes, level
Napi::Value encode_zstd(const Napi::CallbackInfo& info) {
  Taken taken(info);
  const Memory from = taken.bytes(0);
  const size_t level = taken.number(1, 19);
  if (taken.failed() || zstd_problem()[0] != '\0') return info.Env().Undefined();
  const Memory out(zstd_bound(from.count));
  const size_t bytes = zstd_encode(from.data(), from.count, int(level), out.data());
  return bytes == 0 ? info.Env().Undefined() : copied(info.Env(), out.data(), bytes);
}

// frame, bytes of what is in it
Napi::Value decode_zstd(const Napi::CallbackInfo& info) {
  Taken taken(info);
  const Memory in = taken.bytes(0);
  const Memory to(taken.number(1, kCountMost));
  if (taken.failed() || !zstd_decode(in.data(), in.count, to.data(), to.count)) return info.Env().Undefined();
  return copied(info.Env(), to.data(), to.count);
}

}  // namespace

void init_codec_coders(Napi::Env env, Napi::Object exports) {
  Napi::Object coders = Napi::Object::New(env);
  Napi::Array names = Napi::Array::New(env);
  for (const Isa isa : isas()) names.Set(names.Length(), isa_name(isa));
  coders.Set("isas", names);
  const auto add = [&](const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
    coders.Set(name, Napi::Function::New(env, function, name));
  };
  add("encodeRans", encode_rans);
  add("decodeRans", decode_rans);
  add("fitTable", fit_table);
  add("writeTable", write_one);
  add("readTable", read_one);
  add("gaussians", gaussians);
  add("encodeExponents", encode_exponents);
  add("decodeExponents", decode_exponents);
  add("pack", pack_codes);
  add("unpack", unpack_codes);
  add("splitPlanes", move_planes<split_planes>);
  add("joinPlanes", move_planes<join_planes>);
  add("zstd", find_zstd);
  add("encodeZstd", encode_zstd);
  add("decodeZstd", decode_zstd);
  exports.Set("codecCoders", coders);
}

}  // namespace kvferry
