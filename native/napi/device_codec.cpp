// Pages and blocks are copied to the device and back in each call.
#include "device_codec.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "../cuda/codec.h"
#include "../cuda/driver.h"
#include "../cuda/merger.h"
#include "codec_spec.h"
#include "device_pages.h"

namespace kvferry {
namespace {

using cuda::DeviceMemory;
using cuda::TileSpan;

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

  // spec, name of the device, bytes of work memory?, a library in nvCOMP's place?
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
    std::unique_ptr<const cuda::Nvcomp> nvcomp;
    if (problem.empty() && codec::is_nvcomp(spec.coder)) {
      const std::string path = info[3].IsString() ? info[3].As<Napi::String>().Utf8Value() : "";
      // The host's own works in the memory of GPUs.
      if (name != "cuda" && path.empty()) problem = "nvCOMP needs a GPU";
      if (problem.empty()) nvcomp = cuda::Nvcomp::open(spec, path, &problem);
    }
    if (problem.empty()) {
      codec_ = std::make_unique<cuda::DeviceCodec>(std::move(spec), *device_, work_bytes, std::move(nvcomp));
    } else {
      fail_with(info.Env(), "unsupported", problem);
    }
  }

 private:
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
    if (!problem.empty()) return fail_with(info.Env(), "codec_failed", problem), info.Env().Undefined();
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
    std::vector<const char*> codes;
    problem = codec_->decode(there, spans, headers, blocks.data(), room, &codes);
    if (!problem.empty()) return fail_with(info.Env(), "codec_failed", problem), info.Env().Undefined();
    device_->download(pages.memory, memory.data(), pages.bytes);
    Napi::Array found = Napi::Array::New(info.Env(), problems.size());
    size_t next = 0;
    for (uint32_t at = 0; at < problems.size(); at++) {
      if (problems[at].empty()) problems[at] = codes[next++];
      found.Set(at, problems[at]);
    }
    return found;
  }

  std::unique_ptr<cuda::Device> device_;
  std::unique_ptr<cuda::DeviceCodec> codec_;
};

template <typename Array, typename Number>
bool read_list(const Napi::Value& value, napi_typedarray_type type, std::vector<Number>* list) {
  if (!is_array(value, type)) return false;
  const auto array = value.As<Array>();
  list->assign(array.Data(), array.Data() + array.ElementLength());
  return true;
}

// "" or what is wrong with begins, members, head of each set and attention, which come in this order.
std::string read_sets(const Napi::CallbackInfo& info, size_t index, uint32_t heads, uint32_t tokens, cuda::MergeSets* sets) {
  const bool are_there = read_list<Napi::Uint32Array>(info[index], napi_uint32_array, &sets->begins) &&
                         read_list<Napi::Uint32Array>(info[index + 1], napi_uint32_array, &sets->members) &&
                         read_list<Napi::Uint32Array>(info[index + 2], napi_uint32_array, &sets->head_of) &&
                         read_list<Napi::Float32Array>(info[index + 3], napi_float32_array, &sets->attention);
  sets->tokens = tokens;
  if (!are_there || sets->begins.size() != sets->head_of.size() + 1) return "expected sets";
  if (sets->attention.size() != size_t(heads) * tokens) return "expected the attention of each head and token";
  bool are_right = sets->begins.front() == 0 && sets->begins.back() == sets->members.size();
  for (size_t at = 0; at + 1 < sets->begins.size(); at++) are_right = are_right && sets->begins[at] < sets->begins[at + 1];
  for (const uint32_t head : sets->head_of) are_right = are_right && head < heads;
  for (const uint32_t member : sets->members) are_right = are_right && member < tokens;
  return are_right ? "" : "expected sets of at least one token each, within the tile";
}

// name of the device, heads, channels, memory, planes of K and V (bf16), lists, one tile, begins, members, head of each set, attention, sigma, sums
Napi::Value merge(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto number = [&](size_t at) { return info[at].IsNumber() ? info[at].As<Napi::Number>().DoubleValue() : -1; };
  const auto refused = [&](const std::string& message) {
    Napi::TypeError::New(env, message).ThrowAsJavaScriptException();
    return env.Undefined();
  };
  codec::Spec spec;
  if (!(number(1) >= 1 && number(1) <= codec::kWidthMax && number(2) >= 1 && number(2) <= codec::kWidthMax)) return refused("expected a shape");
  spec.parts = 2, spec.heads = uint32_t(number(1)), spec.channels = uint32_t(number(2));
  Pages pages;
  cuda::MergeSets sets;
  std::string problem = read_pages(info, 3, spec, &pages);
  if (problem.empty() && (pages.spans.size() != 1 || pages.spans[0].token != 0)) problem = "expected one tile, from the first token on";
  if (problem.empty()) problem = read_sets(info, 7, spec.heads, pages.spans[0].tokens, &sets);
  if (problem.empty() && !(number(11) > 0)) problem = "expected a sigma";
  if (!problem.empty()) return refused(problem);
  const std::string name = info[0].ToString().Utf8Value();
  const std::unique_ptr<cuda::Device> device = name == "cuda" ? cuda::open_gpu(0, &problem) : cuda::make_emulator(name == "emulator-reversed");
  if (device == nullptr) return fail_with(env, "unsupported", problem), env.Undefined();
  const DeviceMemory memory(*device, pages.bytes);
  device->upload(memory.data(), pages.memory, pages.bytes);
  const cuda::DevicePages there(*device, memory.data(), pages.planes, pages.lists);
  cuda::Merged merged;
  const bool is_sum = info[12].ToBoolean();
  problem = cuda::merge_tokens(*device, there, spec.element, spec.heads, spec.channels, sets, number(11), is_sum, &merged);
  if (!problem.empty()) return fail_with(env, "codec_failed", problem), env.Undefined();
  Napi::Object found = Napi::Object::New(env);
  const auto keys = Napi::Float32Array::New(env, merged.keys.size()), values = Napi::Float32Array::New(env, merged.values.size());
  const auto pivots = Napi::Uint32Array::New(env, merged.pivots.size());
  std::copy(merged.keys.begin(), merged.keys.end(), Napi::Float32Array(keys).Data());
  std::copy(merged.values.begin(), merged.values.end(), Napi::Float32Array(values).Data());
  std::copy(merged.pivots.begin(), merged.pivots.end(), Napi::Uint32Array(pivots).Data());
  found.Set("keys", keys);
  found.Set("values", values);
  found.Set("pivots", pivots);
  return found;
}

}  // namespace

void init_device_codec(Napi::Env env, Napi::Object exports) {
  JsDeviceCodec::define(env, exports);
  exports.Set("mergeTokens", Napi::Function::New(env, merge, "mergeTokens"));
}

}  // namespace kvferry
