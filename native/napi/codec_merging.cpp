#include "codec_merging.h"

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "../codec/decay.h"
#include "../codec/merge.h"
#include "codec_spec.h"

namespace kvferry {
namespace {

// Heads, tokens and channels of what crosses at once.
constexpr double kCountMax = 1 << 24;

Napi::Value refuse(Napi::Env env, const std::string& message) {
  if (!env.IsExceptionPending()) Napi::TypeError::New(env, message).ThrowAsJavaScriptException();
  return env.Undefined();
}

bool read_count(const Napi::Value& value, uint32_t* count) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
  if (!(number >= 0 && number <= kCountMax && number == std::floor(number))) return false;
  *count = uint32_t(number);
  return true;
}

bool is_array(const Napi::Value& value, napi_typedarray_type type, double count) {
  return value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == type &&
         double(value.As<Napi::TypedArray>().ElementLength()) == count;
}

template <typename Array, typename Number>
Array array_of(Napi::Env env, const std::vector<Number>& numbers) {
  Array array = Array::New(env, numbers.size());
  if (!numbers.empty()) memcpy(array.Data(), numbers.data(), numbers.size() * sizeof(Number));
  return array;
}

bool read_shape(const Napi::Value& value, codec::MergeShape* shape, uint32_t* tokens) {
  if (!value.IsObject()) return false;
  const Napi::Object object = value.As<Napi::Object>();
  const Napi::Value element = object.Get("element");
  const std::string name = element.IsString() ? element.As<Napi::String>().Utf8Value() : "";
  if (name != "bf16" && name != "f16" && name != "f32") return false;
  shape->element = name == "bf16" ? codec::Element::bf16 : name == "f16" ? codec::Element::f16 : codec::Element::f32;
  const bool has_all = read_count(object.Get("heads"), &shape->heads) && read_count(object.Get("tokens"), tokens) &&
                       read_count(object.Get("channels"), &shape->channels) && shape->heads > 0 && shape->channels > 0;
  shape->token_stride = shape->channels;
  shape->head_stride = size_t(*tokens) * shape->channels;
  return has_all;
}

// rules, shape, keys, values, attention?, isSkipped -> { map, counts, keys, values }; undefined: some value is no number
Napi::Value merge_layer(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  codec::MergeRules rules;
  if (const std::string problem = read_merge_rules(info[0], &rules); !problem.empty()) return refuse(env, problem);
  codec::MergeShape shape;
  uint32_t tokens = 0;
  if (!read_shape(info[1], &shape, &tokens)) return refuse(env, "expected an element, heads, tokens and channels");
  const double rows = double(shape.heads) * tokens, bytes = rows * shape.channels * codec::element_bytes(shape.element);
  if (!is_array(info[2], napi_uint8_array, bytes) || !is_array(info[3], napi_uint8_array, bytes))
    return refuse(env, "expected " + std::to_string(bytes) + " bytes of keys and of values");
  const float* attention = nullptr;
  if (!info[4].IsUndefined()) {
    if (!is_array(info[4], napi_float32_array, rows)) return refuse(env, "expected the attention of each token of each head");
    attention = info[4].As<Napi::Float32Array>().Data();
    for (size_t at = 0; at < size_t(rows); at++) {
      if (!std::isfinite(attention[at])) return refuse(env, "attention is finite");
    }
  }
  codec::MergedLayer merged;
  codec::MergeSpace space;
  const bool is_merged = codec::merge_layer(rules, shape, {tokens, 0, tokens}, info[2].As<Napi::Uint8Array>().Data(),
                                            info[3].As<Napi::Uint8Array>().Data(), attention, info[5].ToBoolean(), &merged, &space);
  if (!is_merged) return env.Undefined();
  Napi::Object made = Napi::Object::New(env);
  made.Set("map", array_of<Napi::Uint8Array>(env, merged.map));
  made.Set("counts", array_of<Napi::Uint32Array>(env, merged.counts));
  made.Set("keys", array_of<Napi::Uint8Array>(env, merged.keys));
  made.Set("values", array_of<Napi::Uint8Array>(env, merged.values));
  return made;
}

// map, tokens -> { setOf, sizes, pivots }, or why it is none
Napi::Value read_map(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  uint32_t tokens = 0;
  if (!read_count(info[1], &tokens) || !is_array(info[0], napi_uint8_array, double(codec::map_bytes(tokens))))
    return refuse(env, "expected a map of so many tokens");
  codec::MergeSets sets;
  const std::string problem = codec::read_map(info[0].As<Napi::Uint8Array>().Data(), tokens, &sets);
  if (!problem.empty()) return Napi::String::New(env, problem);
  Napi::Object made = Napi::Object::New(env);
  made.Set("setOf", array_of<Napi::Uint32Array>(env, sets.set_of));
  made.Set("sizes", array_of<Napi::Uint32Array>(env, sets.sizes));
  made.Set("pivots", array_of<Napi::Uint32Array>(env, sets.pivots));
  return made;
}

// x -> exp(-x)
Napi::Value decay(const Napi::CallbackInfo& info) {
  if (!info[0].IsNumber()) return refuse(info.Env(), "expected a number");
  return Napi::Number::New(info.Env(), codec::decay_of(info[0].As<Napi::Number>().DoubleValue()));
}

}  // namespace

void init_codec_merging(Napi::Env env, Napi::Object exports) {
  Napi::Object merging = Napi::Object::New(env);
  merging.Set("mergeLayer", Napi::Function::New(env, merge_layer, "mergeLayer"));
  merging.Set("readMap", Napi::Function::New(env, read_map, "readMap"));
  merging.Set("decay", Napi::Function::New(env, decay, "decay"));
  exports.Set("codecMerging", merging);
}

}  // namespace kvferry
