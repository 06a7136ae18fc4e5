#include "device_pages.h"

#include <algorithm>

#include "planes.h"

namespace kvferry {
namespace {

// Of each tile: token, tokens, position, end.
constexpr size_t kSpanNumbers = 4;

}  // namespace

bool is_array(const Napi::Value& value, napi_typedarray_type type) {
  return value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == type;
}

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
    if (uint64_t(list.size()) * plane.tokens > UINT32_MAX) return "expected planes of fewer tokens";
    tokens = std::min(tokens, uint64_t(list.size()) * plane.tokens - plane.first_token);
  }
  if (!is_array(info[index + 3], napi_float64_array)) return "expected tiles";
  const auto numbers = info[index + 3].As<Napi::Float64Array>();
  for (size_t at = 0; at + kSpanNumbers <= numbers.ElementLength(); at += kSpanNumbers) {
    const auto number = [&](size_t place) { return numbers[at + place] >= 0 && numbers[at + place] <= 0x7FFFFFFF ? uint32_t(numbers[at + place]) : UINT32_MAX; };
    const cuda::TileSpan span = {number(0), number(1), number(2), number(3)};
    if (span.token > tokens || span.tokens > tokens - span.token || span.position == UINT32_MAX) return "expected tiles within the planes";
    if (span.tokens > codec::kTokensMax || span.tokens * spec.row_bytes() > codec::kTileBytesMax) return "expected tokens that a tile may have";
    pages->tokens_most = std::max(pages->tokens_most, span.tokens);
    pages->spans.push_back(span);
  }
  return pages->spans.size() <= cuda::kTilesMax ? "" : "expected fewer tiles";
}

void fail_with(Napi::Env env, const char* code, const std::string& message) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Value().Set("code", code);
  error.ThrowAsJavaScriptException();
}

}  // namespace kvferry
