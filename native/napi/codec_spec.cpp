#include "codec_spec.h"

#include <cmath>
#include <initializer_list>
#include <vector>

#include "../codec/coding.h"
#include "../codec/merging.h"

namespace kvferry {
namespace {

using codec::Spec;

template <typename Number>
constexpr napi_typedarray_type kArrayOf = napi_float32_array;
template <>
constexpr napi_typedarray_type kArrayOf<int8_t> = napi_int8_array;
template <>
constexpr napi_typedarray_type kArrayOf<uint8_t> = napi_uint8_array;
template <>
constexpr napi_typedarray_type kArrayOf<uint16_t> = napi_uint16_array;

// An object's fields by name. The first wrong one is what `problem` says; what is read after it is empty.
class Fields {
 public:
  Fields(Napi::Value value, std::string name, std::string* problem) : name_(std::move(name)), problem_(problem) {
    if (value.IsObject()) {
      object_ = value.As<Napi::Object>();
    } else {
      fail("an object", "");
    }
  }

  bool has(const char* field) const { return problem_->empty() && !object_.Get(field).IsUndefined(); }
  Fields inner(const char* field) const { return Fields(problem_->empty() ? object_.Get(field) : Napi::Value(), label(field), problem_); }

  uint32_t number(const char* field, double least, double most) const {
    if (!problem_->empty()) return 0;
    const Napi::Value value = object_.Get(field);
    const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : NAN;
    if (number >= least && number <= most && number == std::floor(number)) return uint32_t(int64_t(number));
    fail("an integer from " + std::to_string(int64_t(least)) + " to " + std::to_string(int64_t(most)), field);
    return 0;
  }

  // No NaN.
  double real(const char* field, double least, double most) const {
    if (!problem_->empty()) return 0;
    const Napi::Value value = object_.Get(field);
    const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : NAN;
    if (number >= least && number <= most) return number;
    fail("a number from " + std::to_string(least) + " to " + std::to_string(most), field);
    return 0;
  }

  bool flag(const char* field) const { return has(field) && object_.Get(field).ToBoolean(); }

  std::string text(const char* field) const {
    if (!problem_->empty()) return "";
    const Napi::Value value = object_.Get(field);
    if (value.IsString()) return value.As<Napi::String>();
    fail("a string", field);
    return "";
  }

  // The place of what it says among these.
  template <typename Choice>
  Choice choice(const char* field, std::initializer_list<const char*> names) const {
    const std::string said = text(field);
    uint32_t place = 0;
    std::string wanted;
    for (const char* name : names) {
      if (said == name) return Choice(place);
      wanted += (place++ == 0 ? "" : ", ") + std::string(name);
    }
    fail("one of " + wanted, field);
    return Choice(0);
  }

  // Empty if it is none.
  template <typename Number>
  Napi::TypedArrayOf<Number> array(const char* field) const {
    if (!problem_->empty()) return {};
    const Napi::Value value = object_.Get(field);
    if (value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == kArrayOf<Number>)
      return value.As<Napi::TypedArrayOf<Number>>();
    fail("an array of its type", field);
    return {};
  }

  template <typename Number>
  std::vector<Number> list(const char* field) const {
    const Napi::TypedArrayOf<Number> found = array<Number>(field);
    return found.IsEmpty() ? std::vector<Number>() : std::vector<Number>(found.Data(), found.Data() + found.ElementLength());
  }

 private:
  std::string label(const char* field) const { return name_ + (*field == '\0' ? "" : ".") + field; }
  void fail(const std::string& wanted, const char* field) const {
    if (problem_->empty()) *problem_ = "expected " + wanted + " for " + label(field);
  }

  std::string name_;
  std::string* problem_;
  Napi::Object object_;
};

void read_transform(const Fields& transform, Spec* spec, Napi::Float32Array* matrices) {
  if (transform.has("rope")) {
    const Fields rope = transform.inner("rope");
    spec->inverse_frequencies = rope.list<float>("inverseFrequencies");
    spec->pairing = rope.choice<codec::Pairing>("pairing", {"half", "adjacent"});
  }
  if (transform.has("mean")) spec->mean = transform.list<float>("mean");
  if (transform.has("scale")) spec->scale = transform.list<float>("scale");
  if (transform.has("signs")) spec->signs = transform.list<int8_t>("signs");
  if (transform.has("delta")) spec->anchor = transform.inner("delta").number("anchor", 1, codec::kTokensMax);
  if (!transform.has("klt")) return;
  const Fields klt = transform.inner("klt");
  spec->klt_block = klt.number("block", 1, codec::kWidthMax);
  *matrices = klt.array<float>("matrices");
}

void read_quantizer(const Fields& quantizer, Spec* spec) {
  spec->quantizer = quantizer.choice<codec::Quantizer>("kind", {"none", "step", "group", "fp8", "cachegen"});
  switch (spec->quantizer) {
    case codec::Quantizer::none: return;
    case codec::Quantizer::step: spec->steps = quantizer.list<float>("steps"); return;
    case codec::Quantizer::fp8: spec->format = quantizer.choice<codec::Fp8>("format", {"e4m3", "e5m2"}); return;
    case codec::Quantizer::cachegen: spec->levels = quantizer.list<uint16_t>("levels"); return;
    case codec::Quantizer::group:
      spec->levels = quantizer.list<uint16_t>("levels");
      spec->axis = quantizer.choice<codec::Axis>("axis", {"token", "channel", "tensor"});
      if (spec->axis != codec::Axis::tensor) spec->group = quantizer.number("group", 1, codec::kTokensMax);
      spec->recent = quantizer.number("recent", 0, UINT32_MAX);
      return;
  }
}

void read_coder_of(const Fields& coder, Spec* spec) {
  spec->coder = coder.choice<codec::Coder>("kind", {"none", "pack", "rans", "rans-static", "exponent", "planes", "zstd", "nvcomp-ans", "nvcomp-bitcomp"});
  if (spec->coder == codec::Coder::rans_static) spec->classes = coder.list<uint8_t>("classes");
  // What zstd calls a level: -7 is the fastest of the usual ones, 22 the last.
  const bool has_level = spec->coder == codec::Coder::planes || spec->coder == codec::Coder::zstd;
  if (has_level && coder.has("level")) spec->level = int32_t(coder.number("level", -7, 22));
}

void read_spec(const Fields& fields, Spec* spec, codec::Isa* isa, Napi::Float32Array* matrices, std::string* problem) {
  spec->element = fields.choice<codec::Element>("element", {"bf16", "f16", "f32"});
  spec->parts = fields.number("parts", 1, codec::kWidthMax);
  spec->heads = fields.number("heads", 1, codec::kWidthMax);
  spec->channels = fields.number("channels", 1, codec::kWidthMax);
  spec->exempt = fields.has("exempt") ? fields.number("exempt", 0, UINT32_MAX) : 0;
  spec->verify = fields.flag("verify");
  if (fields.has("transform")) read_transform(fields.inner("transform"), spec, matrices);
  read_quantizer(fields.inner("quantizer"), spec);
  read_coder_of(fields.inner("codec"), spec);
  if (fields.has("isa") && !codec::isa_by_name(fields.text("isa").c_str(), isa) && problem->empty()) *problem = "this CPU lacks spec.isa";
}

std::string why_not(const Spec& spec) {
  const std::string problem = codec::problem_of(spec);
  return problem.empty() ? "" : "spec: " + problem;
}

// On CPUs.
std::string why_not_here(const Spec& spec) {
  const std::string problem = why_not(spec);
  return problem.empty() ? codec::coder_problem(spec.coder) : problem;
}

void read_rules(const Fields& fields, codec::MergeRules* rules) {
  rules->has_budget = fields.has("budget");
  if (rules->has_budget) rules->budget = fields.real("budget", 0, 1);
  else rules->cosine = fields.real("cosine", -1, 1);
  rules->sinks = fields.number("sinks", 0, UINT32_MAX);
  rules->recent = fields.real("recent", 0, 1);
  rules->heavy = fields.real("heavy", 0, 1);
  rules->members = fields.number("members", 1, UINT32_MAX);
  rules->sigma = fields.real("sigma", 0, INFINITY);
  rules->is_sum = fields.flag("isSum");
  rules->by_layer = fields.flag("byLayer");
}

// Keys and values of the same layers.
std::string problem_of_sides(const Spec& keys, const Spec& values, size_t skipped) {
  const bool is_one = keys.element == values.element && keys.parts == values.parts && keys.heads == values.heads && keys.channels == values.channels;
  if (!is_one) return "tokens are merged where keys and values have one shape";
  return skipped == keys.parts ? "" : "expected as many flags as there are layers for spec.skipped";
}

void copy_matrices(const Napi::Float32Array& matrices, Spec* spec) {
  if (!matrices.IsEmpty()) spec->matrices.assign(matrices.Data(), matrices.Data() + matrices.ElementLength());
}

}  // namespace

std::string read_codec_spec(Napi::Value value, Spec* spec, codec::Isa* isa) {
  std::string problem;
  Napi::Float32Array matrices;
  read_spec(Fields(value, "spec", &problem), spec, isa, &matrices, &problem);
  if (!problem.empty()) return problem;
  copy_matrices(matrices, spec);
  return why_not(*spec);
}

std::string read_merge_rules(Napi::Value value, codec::MergeRules* rules) {
  std::string problem;
  read_rules(Fields(value, "merge", &problem), rules);
  return problem;
}

std::string parse_coder(Napi::Value value, CoderSpec* spec, KltMatrices* matrices) {
  std::string problem;
  const Fields fields(value, "spec", &problem);
  spec->merges = fields.has("merge");
  if (!spec->merges) {
    read_spec(fields, &spec->keys, &spec->isa, &(*matrices)[0], &problem);
    return problem;
  }
  read_rules(fields.inner("merge"), &spec->rules);
  const std::vector<uint8_t> flags = fields.list<uint8_t>("skipped");
  read_spec(fields.inner("k"), &spec->keys, &spec->isa, &(*matrices)[0], &problem);
  if (problem.empty()) read_spec(fields.inner("v"), &spec->values, &spec->isa, &(*matrices)[1], &problem);
  if (problem.empty()) problem = problem_of_sides(spec->keys, spec->values, flags.size());
  spec->skipped.assign(flags.begin(), flags.end());
  return problem;
}

std::string make_coder(CoderSpec spec, std::unique_ptr<const codec::TileCoder>* coder) {
  std::string problem = why_not_here(spec.keys);
  if (problem.empty() && spec.merges) problem = why_not_here(spec.values);
  if (!problem.empty()) return problem;
  if (spec.merges)
    *coder = std::make_unique<codec::MergingCodec>(spec.rules, spec.skipped, std::move(spec.keys), std::move(spec.values), spec.isa);
  else
    *coder = std::make_unique<codec::TileCodec>(std::move(spec.keys), spec.isa);
  return "";
}

std::string read_coder(Napi::Value value, std::unique_ptr<const codec::TileCoder>* coder) {
  CoderSpec spec;
  KltMatrices matrices;
  const std::string problem = parse_coder(value, &spec, &matrices);
  if (!problem.empty()) return problem;
  copy_matrices(matrices[0], &spec.keys);
  copy_matrices(matrices[1], &spec.values);
  return make_coder(std::move(spec), coder);
}

}  // namespace kvferry
