// Pages and blocks are copied to the device and back in each call.
#include "device_codec.h"

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "../cuda/codec.h"
#include "../cuda/driver.h"
#include "codec_spec.h"
#include "planes.h"

namespace kvferry {
namespace {

using cuda::DeviceMemory;
using cuda::TileSpan;

// Of each tile: token, tokens, position, end.
constexpr size_t kSpanNumbers = 4;

// Pages of a call, checked: no tile leaves them.
struct Pages {
  uint8_t* memory = nullptr;
  size_t bytes = 0;
  std::vector<Plane> planes;
  std::vector<std::vector<uint32_t>> lists;
  std::vector<TileSpan> spans;
  uint32_t tokens_most = 0;
};

bool is_array(const Napi::Value& value, napi_typedarray_type type) {
  return value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == type;
}

// "" or what is wrong with memory, planes, lists and tiles, which come in this order.
std::string read_pages(const Napi::CallbackInfo& info, size_t index, const codec::Spec& spec, Pages* pages) {
  if (!is_array(info[index], napi_uint8_array)) return "expected the pages' memory";
  auto memory = info[index].As<Napi::Uint8Array>();
  pages->memory = memory.Data(), pages->bytes = memory.ByteLength();
  if (!planes_of(info[index + 1], &pages->planes) || pages->planes.size() != spec.parts) return "expected a plane for each part";
  if (!info[index + 2].IsArray()) return "expected lists of blocks";
  const Napi::Array lists = info[index + 2].As<Napi::Array>();
  for (uint32_t at = 0; at < lists.Length(); at++) {
    if (!is_array(lists.Get(at), napi_uint32_array)) return "expected lists of blocks";
    const auto list = lists.Get(at).As<Napi::Uint32Array>();
    pages->lists.emplace_back(list.Data(), list.Data() + list.ElementLength());
  }
  uint64_t tokens = UINT64_MAX;
  for (const Plane& plane : pages->planes) {
    const bool is_alike = plane.heads == spec.heads && plane.channels == spec.channels && plane.element_bytes == codec::element_bytes(spec.element);
    if (!is_alike || plane.block_list >= pages->lists.size()) return "expected planes of the spec's shape";
    const auto& list = pages->lists[plane.block_list];
    if (!plane_fits(plane, list.data(), list.size(), pages->bytes)) return "expected planes within the memory";
    const uint64_t together = plane.offset | plane.block_stride | plane.token_stride | plane.head_stride | plane.channel_stride;
    if (together % plane.element_bytes != 0) return "expected planes whose elements are aligned";
    tokens = std::min(tokens, uint64_t(list.size()) * plane.tokens - plane.first_token);
  }
  if (!is_array(info[index + 3], napi_float64_array)) return "expected tiles";
  const auto numbers = info[index + 3].As<Napi::Float64Array>();
  for (size_t at = 0; at + kSpanNumbers <= numbers.ElementLength(); at += kSpanNumbers) {
    const auto number = [&](size_t place) { return numbers[at + place] >= 0 && numbers[at + place] <= 0x7FFFFFFF ? uint32_t(numbers[at + place]) : UINT32_MAX; };
    const TileSpan span = {number(0), number(1), number(2), number(3)};
    if (span.token > tokens || span.tokens > tokens - span.token || span.position == UINT32_MAX) return "expected tiles within the planes";
    if (span.tokens > codec::kTokensMax || span.tokens * spec.row_bytes() > codec::kTileBytesMax) return "expected tokens that a tile may have";
    pages->tokens_most = std::max(pages->tokens_most, span.tokens);
    pages->spans.push_back(span);
  }
  return pages->spans.size() <= cuda::kTilesMax ? "" : "expected fewer tiles";
}

class JsDeviceCodec : public Napi::ObjectWrap<JsDeviceCodec> {
 public:
  static void define(Napi::Env env, Napi::Object exports) {
    exports.Set("DeviceCodec", DefineClass(env, "DeviceCodec",
                                           {
                                               InstanceMethod("encode", &JsDeviceCodec::encode),
                                               InstanceMethod("decode", &JsDeviceCodec::decode),
                                               InstanceAccessor("id", &JsDeviceCodec::id, nullptr),
                                           }));
  }

  // spec, name of the device, bytes of work memory?
  explicit JsDeviceCodec(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    codec::Spec spec;
    codec::Isa isa = codec::Isa::scalar;
    std::string problem = read_codec_spec(info[0], &spec, &isa);
    if (info.Env().IsExceptionPending()) return;
    if (problem.empty()) problem = cuda::problem_on_device(spec);
    const std::string name = info[1].IsString() ? info[1].As<Napi::String>().Utf8Value() : "";
    if (problem.empty() && name != "emulator" && name != "emulator-reversed" && name != "cuda") problem = "there is no such device";
    if (!problem.empty()) {
      refuse(info.Env(), problem);
      return;
    }
    device_ = name == "cuda" ? cuda::open_gpu(0, &problem) : cuda::make_emulator(name == "emulator-reversed");
    const uint32_t work_bytes = info[2].IsNumber() ? info[2].As<Napi::Number>().Uint32Value() : uint32_t(cuda::kWorkBytes);
    if (device_ != nullptr) {
      codec_ = std::make_unique<cuda::DeviceCodec>(std::move(spec), *device_, work_bytes);
    } else {
      fail(info.Env(), "unsupported", problem);
    }
  }

 private:
  static void fail(Napi::Env env, const char* code, const std::string& message) {
    Napi::Error error = Napi::Error::New(env, message);
    error.Value().Set("code", code);
    error.ThrowAsJavaScriptException();
  }
  static void refuse(Napi::Env env, const std::string& message) { Napi::TypeError::New(env, message).ThrowAsJavaScriptException(); }

  Napi::Value id(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), codec::name_of(codec_->identity())); }

  // memory, planes, lists, tiles -> { block, stored } of each tile
  Napi::Value encode(const Napi::CallbackInfo& info) {
    Pages pages;
    std::string problem = read_pages(info, 0, codec_->spec(), &pages);
    if (!problem.empty()) return refuse(info.Env(), problem), info.Env().Undefined();
    const size_t room = codec_->room(pages.tokens_most);
    const DeviceMemory memory(*device_, pages.bytes), blocks(*device_, room * pages.spans.size());
    device_->upload(memory.data(), pages.memory, pages.bytes);
    const cuda::DevicePages there(*device_, memory.data(), pages.planes, pages.lists);
    std::vector<codec::Encoded> made;
    problem = codec_->encode(there, pages.spans, blocks.data(), room, &made);
    if (!problem.empty()) return fail(info.Env(), "codec_failed", problem), info.Env().Undefined();
    Napi::Array found = Napi::Array::New(info.Env(), made.size());
    for (size_t at = 0; at < made.size(); at++) {
      auto block = Napi::Uint8Array::New(info.Env(), made[at].bytes);
      device_->download(block.Data(), blocks.data() + at * room, made[at].bytes);
      Napi::Object one = Napi::Object::New(info.Env());
      one.Set("block", block);
      one.Set("stored", codec::stored_name(made[at].stored));
      found.Set(uint32_t(at), one);
    }
    return found;
  }

  // blocks, memory, planes, lists, tiles -> "" or what is wrong with each
  Napi::Value decode(const Napi::CallbackInfo& info) {
    Pages pages;
    std::string problem = read_pages(info, 1, codec_->spec(), &pages);
    const bool has_blocks = info[0].IsArray() && info[0].As<Napi::Array>().Length() == pages.spans.size();
    if (problem.empty() && !has_blocks) problem = "expected a block for each tile";
    if (!problem.empty()) return refuse(info.Env(), problem), info.Env().Undefined();
    // Only those whose headers are right.
    std::vector<std::string> problems;
    std::vector<TileSpan> spans;
    std::vector<codec::Header> headers;
    std::vector<Napi::Uint8Array> arrays;
    size_t room = 256;
    for (uint32_t at = 0; at < pages.spans.size(); at++) {
      const Napi::Value value = info[0].As<Napi::Array>().Get(at);
      if (!is_array(value, napi_uint8_array)) return refuse(info.Env(), "expected a block for each tile"), info.Env().Undefined();
      const auto array = value.As<Napi::Uint8Array>();
      codec::Header header;
      const char* wrong = codec::read_header(array.Data(), array.ByteLength(), &header);
      problems.push_back(wrong != nullptr ? wrong : codec_->problem_of_header(header, pages.spans[at]));
      if (!problems.back().empty()) continue;
      spans.push_back(pages.spans[at]), headers.push_back(header), arrays.push_back(array);
      room = std::max(room, (array.ByteLength() + 255) / 256 * 256);
    }
    const DeviceMemory memory(*device_, pages.bytes), blocks(*device_, room * spans.size());
    device_->upload(memory.data(), pages.memory, pages.bytes);
    for (size_t at = 0; at < arrays.size(); at++) device_->upload(blocks.data() + at * room, arrays[at].Data(), arrays[at].ByteLength());
    const cuda::DevicePages there(*device_, memory.data(), pages.planes, pages.lists);
    std::vector<bool> good;
    problem = codec_->decode(there, spans, headers, blocks.data(), room, &good);
    if (!problem.empty()) return fail(info.Env(), "codec_failed", problem), info.Env().Undefined();
    device_->download(pages.memory, memory.data(), pages.bytes);
    Napi::Array found = Napi::Array::New(info.Env(), problems.size());
    size_t next = 0;
    for (uint32_t at = 0; at < problems.size(); at++) {
      const bool is_harmed = problems[at].empty() && !good[next++];
      found.Set(at, is_harmed ? "the block's codes do not decode" : problems[at]);
    }
    return found;
  }

  std::unique_ptr<cuda::Device> device_;
  std::unique_ptr<cuda::DeviceCodec> codec_;
};

}  // namespace

void init_device_codec(Napi::Env env, Napi::Object exports) { JsDeviceCodec::define(env, exports); }

}  // namespace kvferry
