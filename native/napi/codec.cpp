#include "codec.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../codec/shared.h"
#include "../core/clock.h"
#include "codec_spec.h"

namespace kvferry {
namespace {

using codec::Encoded;
using codec::Shared;
using codec::TileCodec;
using codec::Workspace;

constexpr napi_type_tag kCodecTag = {0x6b76666572727900, 0x636f646563000001};

// One call's arguments, checked. Memory is JavaScript's.
struct Task {
  std::vector<uint8_t*> parts;
  uint32_t tokens = 0, position = 0, end = 0;
  uint8_t* block = nullptr;
  size_t block_bytes = 0;
};

Napi::Value refuse(Napi::Env env, const std::string& message) {
  if (!env.IsExceptionPending()) Napi::TypeError::New(env, message).ThrowAsJavaScriptException();
  return env.Undefined();
}

Napi::Error codec_failed(Napi::Env env, const std::string& detail) {
  Napi::Error error = Napi::Error::New(env, detail);
  error.Value().Set("code", "codec_failed");
  return error;
}

Napi::Value encoded_value(Napi::Env env, const Encoded& encoded) {
  Napi::Object value = Napi::Object::New(env);
  value.Set("bytes", double(encoded.bytes));
  value.Set("stored", codec::stored_name(encoded.stored));
  return value;
}

bool read_bytes(const Napi::Value& value, uint8_t** bytes, size_t* count) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) return false;
  auto array = value.As<Napi::Uint8Array>();
  *bytes = array.Data();
  *count = array.ByteLength();
  return true;
}

bool read_count(const Napi::Value& value, uint32_t* count) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
  if (!(number >= 0 && number <= 0x7FFFFFFF && number == double(uint32_t(number)))) return false;
  *count = uint32_t(number);
  return true;
}

// "" or what is wrong with parts, tokens and position, which come in this order.
std::string read_tile(const Napi::CallbackInfo& info, size_t index, const TileCodec& tiles, Task* task) {
  if (!read_count(info[index + 1], &task->tokens) || !tiles.takes(task->tokens)) return "expected tokens that a tile may have";
  if (!read_count(info[index + 2], &task->position)) return "expected a position";
  const uint32_t parts = tiles.spec().parts;
  const std::string wanted = "expected " + std::to_string(parts) + " parts of " + std::to_string(tiles.part_bytes(task->tokens)) + " bytes";
  if (!info[index].IsArray() || info[index].As<Napi::Array>().Length() != parts) return wanted;
  for (uint32_t part = 0; part < parts; part++) {
    uint8_t* bytes;
    size_t count;
    if (!read_bytes(info[index].As<Napi::Array>().Get(part), &bytes, &count) || count != tiles.part_bytes(task->tokens)) return wanted;
    task->parts.push_back(bytes);
  }
  return "";
}

// parts, tokens, position, out, end?
std::string read_encode(const Napi::CallbackInfo& info, const TileCodec& tiles, Task* task) {
  if (std::string problem = read_tile(info, 0, tiles, task); !problem.empty()) return problem;
  const bool has_room = read_bytes(info[3], &task->block, &task->block_bytes) && task->block_bytes >= tiles.bound(task->tokens);
  if (!has_room) return "expected room for bound(tokens) bytes";
  task->end = task->position + task->tokens;
  return info[4].IsUndefined() || read_count(info[4], &task->end) ? "" : "expected the position behind the sequence";
}

// block, parts, tokens, position
std::string read_decode(const Napi::CallbackInfo& info, const TileCodec& tiles, Task* task) {
  if (!read_bytes(info[0], &task->block, &task->block_bytes)) return "expected a block";
  return read_tile(info, 1, tiles, task);
}

// False in an environment that is ending (a worker that was terminated): it runs nothing any more.
bool can_run(Napi::Env env) {
  napi_value object;
  return napi_create_object(env, &object) == napi_ok && napi_set_named_property(env, object, "it", object) == napi_ok;
}

// One tile on a thread of libuv's. Holds what JavaScript gave until it is done.
class Later : public Napi::AsyncWorker {
 public:
  Later(const Napi::CallbackInfo& info, std::shared_ptr<Shared> shared, Task task, bool decodes)
      : AsyncWorker(info.Env(), "kvferry.codec"),
        shared_(std::move(shared)),
        task_(std::move(task)),
        decodes_(decodes),
        deferred_(info.Env()) {
    held_ = Napi::Persistent(Napi::Array::New(info.Env()));
    uint32_t at = 0;
    const Napi::Array parts = info[decodes ? 1 : 0].As<Napi::Array>();
    for (uint32_t part = 0; part < parts.Length(); part++) held_.Value().Set(at++, parts.Get(part));
    held_.Value().Set(at, info[decodes ? 0 : 3]);
  }
  Napi::Promise promise() const { return deferred_.Promise(); }

  void Execute() override {
    const uint64_t start_ns = thread_ns();
    std::unique_ptr<Workspace> space = shared_->take();
    const TileCodec& tiles = shared_->tiles;
    if (decodes_) {
      problem_ = tiles.decode(task_.block, task_.block_bytes, task_.parts.data(), task_.tokens, task_.position, space.get());
    } else {
      encoded_ = tiles.encode(task_.parts.data(), task_.tokens, task_.position, task_.end, task_.block, space.get());
    }
    shared_->give(std::move(space));
    thread_ns_ = thread_ns() - start_ns;
  }
  void OnOK() override {
    if (!can_run(Env())) return;
    if (!problem_.empty()) return deferred_.Reject(codec_failed(Env(), problem_).Value());
    Napi::Object value = decodes_ ? Napi::Object::New(Env()) : encoded_value(Env(), encoded_).As<Napi::Object>();
    value.Set("threadNs", double(thread_ns_));
    deferred_.Resolve(value);
  }

 private:
  const std::shared_ptr<Shared> shared_;
  const Task task_;
  const bool decodes_;
  Napi::Promise::Deferred deferred_;
  Napi::Reference<Napi::Array> held_;
  Encoded encoded_;
  uint64_t thread_ns_ = 0;
  std::string problem_;
};

class NativeCodec : public Napi::ObjectWrap<NativeCodec> {
 public:
  static void define(Napi::Env env, Napi::Object exports) {
    exports.Set("NativeCodec", DefineClass(env, "NativeCodec",
                                           {
                                               InstanceMethod("bound", &NativeCodec::bound),
                                               InstanceMethod("encode", &NativeCodec::encode),
                                               InstanceMethod("decode", &NativeCodec::decode),
                                               InstanceMethod("encodeLater", &NativeCodec::encode_later),
                                               InstanceMethod("decodeLater", &NativeCodec::decode_later),
                                               InstanceMethod("counts", &NativeCodec::counts),
                                               InstanceAccessor("id", &NativeCodec::id, nullptr),
                                           }));
  }

  explicit NativeCodec(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    codec::Spec spec;
    codec::Isa isa = codec::best_isa();
    std::string problem = read_codec_spec(info[0], &spec, &isa);
    if (info.Env().IsExceptionPending()) return;
    if (problem.empty()) problem = codec::coder_problem(spec.coder);
    if (problem.empty()) {
      Value().As<Napi::Object>().TypeTag(&kCodecTag);
      shared_ = std::make_shared<Shared>(std::move(spec), isa);
    } else {
      refuse(info.Env(), problem);
    }
  }

 private:
  Napi::Value id(const Napi::CallbackInfo& info) {
    return Napi::String::New(info.Env(), codec::name_of(shared_->tiles.identity()));
  }

  // Names as transport/native.ts has them.
  Napi::Value counts(const Napi::CallbackInfo& info) {
    const codec::ChunkCounts& counts = shared_->counts;
    Napi::Object value = Napi::Object::New(info.Env());
    const auto set = [](Napi::Object& to, const char* name, const std::atomic<uint64_t>& count) {
      to.Set(name, double(count.load(std::memory_order_relaxed)));
    };
    set(value, "encodeNs", counts.encode_ns);
    set(value, "encodedChunks", counts.encoded_chunks);
    set(value, "encodedBytes", counts.encoded_bytes);
    set(value, "sentBytes", counts.sent_bytes);
    set(value, "decodeNs", counts.decode_ns);
    set(value, "decodedChunks", counts.decoded_chunks);
    set(value, "decodedBytes", counts.decoded_bytes);
    set(value, "arrivedBytes", counts.arrived_bytes);
    set(value, "failedChunks", counts.failed_chunks);
    Napi::Object stored = Napi::Object::New(info.Env());
    for (size_t reason = 1; reason < counts.stored_chunks.size(); reason++)
      set(stored, codec::stored_name(codec::Stored(reason)), counts.stored_chunks[reason]);
    value.Set("stored", stored);
    return value;
  }

  // tokens -> bytes
  Napi::Value bound(const Napi::CallbackInfo& info) {
    uint32_t tokens;
    if (!read_count(info[0], &tokens) || !shared_->tiles.takes(tokens)) return refuse(info.Env(), "expected tokens that a tile may have");
    return Napi::Number::New(info.Env(), double(shared_->tiles.bound(tokens)));
  }

  // parts, tokens, position, out, end? -> { bytes, stored }
  Napi::Value encode(const Napi::CallbackInfo& info) {
    Task task;
    const std::string problem = read_encode(info, shared_->tiles, &task);
    if (!problem.empty()) return refuse(info.Env(), problem);
    std::unique_ptr<Workspace> space = shared_->take();
    const Encoded encoded = shared_->tiles.encode(task.parts.data(), task.tokens, task.position, task.end, task.block, space.get());
    shared_->give(std::move(space));
    return encoded_value(info.Env(), encoded);
  }

  // block, parts, tokens, position
  void decode(const Napi::CallbackInfo& info) {
    Task task;
    std::string problem = read_decode(info, shared_->tiles, &task);
    if (!problem.empty()) {
      refuse(info.Env(), problem);
      return;
    }
    std::unique_ptr<Workspace> space = shared_->take();
    problem = shared_->tiles.decode(task.block, task.block_bytes, task.parts.data(), task.tokens, task.position, space.get());
    shared_->give(std::move(space));
    if (!problem.empty()) codec_failed(info.Env(), problem).ThrowAsJavaScriptException();
  }

  Napi::Value encode_later(const Napi::CallbackInfo& info) {
    Task task;
    const std::string problem = read_encode(info, shared_->tiles, &task);
    return problem.empty() ? start(info, std::move(task), false) : refuse(info.Env(), problem);
  }

  Napi::Value decode_later(const Napi::CallbackInfo& info) {
    Task task;
    const std::string problem = read_decode(info, shared_->tiles, &task);
    return problem.empty() ? start(info, std::move(task), true) : refuse(info.Env(), problem);
  }

  Napi::Value start(const Napi::CallbackInfo& info, Task task, bool decodes) {
    auto* later = new Later(info, shared_, std::move(task), decodes);
    later->Queue();
    return later->promise();
  }

  friend std::shared_ptr<const ChunkCodec> kvferry::chunk_codec_of(const Napi::Value& value);
  std::shared_ptr<Shared> shared_;
};

}  // namespace

std::shared_ptr<const ChunkCodec> chunk_codec_of(const Napi::Value& value) {
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&kCodecTag)) return nullptr;
  return NativeCodec::Unwrap(value.As<Napi::Object>())->shared_;
}

void init_codec(Napi::Env env, Napi::Object exports) {
  Napi::Array names = Napi::Array::New(env);
  for (const codec::Isa isa : codec::isas()) names.Set(names.Length(), codec::isa_name(isa));
  exports.Set("codecIsas", names);
  Napi::Object limits = Napi::Object::New(env);
  limits.Set("tokens", codec::kTokensMax);
  limits.Set("width", codec::kWidthMax);
  limits.Set("tileBytes", double(codec::kTileBytesMax));
  exports.Set("codecLimits", limits);
  NativeCodec::define(env, exports);
}

}  // namespace kvferry
