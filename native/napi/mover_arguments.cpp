#include "mover_arguments.h"

#include <algorithm>

#include "../core/frame.h"
#include "../core/region.h"
#include "codec.h"
#include "planes.h"

namespace kvferry {
namespace {

constexpr size_t kChunkNumbers = 3;
constexpr uint32_t kIncoming = 1, kStanding = 2, kChecksum = 4;
constexpr uint32_t kRankShift = 3, kRankBits = 3;

bool is_array_of(Napi::Value value, napi_typedarray_type type) {
  return value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == type;
}

}  // namespace

void throw_failure(Napi::Env env, const Failure& failure) {
  if (env.IsExceptionPending()) return;
  Napi::Error error = Napi::Error::New(env, failure.detail);
  error.Value().Set("number", Napi::Number::New(env, uint32_t(failure.code)));
  error.ThrowAsJavaScriptException();
}

Napi::Value endpoint_value(Napi::Env env, const Endpoint& endpoint) {
  Napi::Object value = Napi::Object::New(env);
  value.Set("host", endpoint.host);
  value.Set("port", endpoint.port);
  return value;
}

Napi::Value lane_socket_value(Napi::Env env, const LaneInfo::Socket& socket) {
  Napi::Object value = Napi::Object::New(env);
  value.Set("rttVariationUs", socket.rtt_variation_us);
  value.Set("pathMtuBytes", socket.path_mtu_bytes);
  value.Set("dscp", socket.dscp);
  value.Set("sendBufferBytes", socket.send_buffer_bytes);
  value.Set("receiveBufferBytes", socket.receive_buffer_bytes);
  return value;
}

Napi::Value tls_peer_value(Napi::Env env, const TlsPeer& peer) {
  Napi::Object value = Napi::Object::New(env);
  value.Set("identity", peer.identity);
  value.Set("organization", peer.organization);
  value.Set("protocol", peer.protocol);
  value.Set("cipher", peer.cipher);
  value.Set("resumed", peer.resumed);
  return value;
}

Napi::Value lane_infos_value(Napi::Env env, const std::vector<LaneInfo>& infos) {
  Napi::Array array = Napi::Array::New(env, infos.size());
  for (size_t index = 0; index < infos.size(); index++) {
    const LaneInfo& info = infos[index];
    Napi::Object value = Napi::Object::New(env);
    value.Set("lane", info.lane);
    value.Set("bytesSent", info.bytes_sent);
    value.Set("bytesReceived", info.bytes_received);
    value.Set("bytesDelivered", info.bytes_delivered);
    value.Set("bytesRetransmitted", info.bytes_retransmitted);
    value.Set("deliveryRateBytesPerSecond", info.delivery_rate);
    value.Set("rttUs", info.rtt_us);
    value.Set("minRttUs", info.min_rtt_us);
    value.Set("retransmits", info.retransmits);
    value.Set("lost", info.lost);
    value.Set("congestionWindowBytes", info.congestion_window_bytes);
    value.Set("notSentBytes", info.not_sent_bytes);
    value.Set("busyUs", info.busy_us);
    value.Set("receiveWindowLimitedUs", info.receive_window_limited_us);
    value.Set("sendBufferLimitedUs", info.send_buffer_limited_us);
    value.Set("congestionControl", info.congestion_control);
    value.Set("unansweredBytes", info.unanswered_bytes);
    value.Set("isReceiving", info.is_receiving);
    if (info.socket) {
      value.Set("local", endpoint_value(env, info.socket->local));
      value.Set("remote", endpoint_value(env, info.socket->remote));
      value.Set("socket", lane_socket_value(env, *info.socket));
    }
    if (info.tls) value.Set("tls", tls_peer_value(env, *info.tls));
    array.Set(uint32_t(index), value);
  }
  return array;
}

int Arguments::fail(const char* wanted) {
  if (!failed_) throw_failure(info_.Env(), {Code::invalid_argument, std::string("the mover expected ") + wanted});
  failed_ = true;
  return 0;
}

std::string Arguments::text(size_t index) {
  if (failed_ || !info_[index].IsString()) return fail("a string"), "";
  return info_[index].As<Napi::String>().Utf8Value();
}

std::vector<std::string> Arguments::texts(size_t index) {
  std::vector<std::string> texts;
  if (failed_ || !info_[index].IsArray()) return fail("an array of strings"), texts;
  const auto array = info_[index].As<Napi::Array>();
  for (uint32_t at = 0; at < array.Length(); at++) {
    const Napi::Value value = array[at];
    if (!value.IsString()) return fail("an array of strings"), texts;
    texts.push_back(value.As<Napi::String>().Utf8Value());
  }
  return texts;
}

Bytes Arguments::bytes(size_t index) {
  if (failed_ || !is_array_of(info_[index], napi_uint8_array)) return fail("a Uint8Array"), Bytes();
  const auto array = info_[index].As<Napi::Uint8Array>();
  return {array.Data(), array.ElementLength()};
}

const uint8_t* Arguments::token(size_t index) {
  const Bytes token = bytes(index);
  if (!failed_ && token.count != kTokenBytes) fail("a token of 16 bytes");
  return token.data;
}

Napi::Function Arguments::function(size_t index) {
  if (failed_ || !info_[index].IsFunction()) return fail("a function"), Napi::Function();
  return info_[index].As<Napi::Function>();
}

Bounds Arguments::bounds(size_t index) {
  Bounds bounds = {};
  if (failed_ || !info_[index].IsObject()) return fail("an object of bounds"), bounds;
  const Napi::Object object = info_[index].As<Napi::Object>();
  const auto read = [&](const char* name) { return to_number<uint32_t>(object.Get(name)); };
  bounds.connections = read("connections");
  bounds.lanes = std::min(read("lanes"), 0xfff0u);
  bounds.placements = read("placements");
  bounds.submissions = read("submissions");
  bounds.completions = read("completions");
  bounds.send_queue_chunks = read("sendQueueChunks");
  bounds.chunk_bytes = read("chunkBytes");
  bounds.message_bytes = read("messageBytes");
  bounds.greeting_bytes = read("greetingBytes");
  bounds.queue_bytes = read("queueBytes");
  bounds.preamble_timeout_ms = read("preambleTimeoutMs");
  bounds.connect_timeout_ms = read("connectTimeoutMs");
  bounds.not_sent_low_bytes = read("notSentLowBytes");
  bounds.greetings = read("greetings");
  bounds.records_per_key = read("recordsPerKey");
  return bounds;
}

TlsMaterial Arguments::tls_material(size_t index) {
  TlsMaterial material;
  for (std::string* pem : {&material.certificate, &material.key, &material.authorities}) {
    const Bytes given = bytes(index++);
    if (!failed_) pem->assign(reinterpret_cast<const char*>(given.data), given.count);
  }
  material.denied = texts(index);
  return material;
}

LaneOptions Arguments::lane_options(size_t index) {
  LaneOptions options;
  options.pace_bytes_per_second = number<uint64_t>(index);
  options.not_sent_low_bytes = number<uint32_t>(index + 1);
  options.congestion_control = text(index + 2);
  options.socket_buffer_bytes = std::min(number<uint32_t>(index + 3), uint32_t(std::numeric_limits<int>::max()));
  options.dscp = number<uint32_t>(index + 4) & 63;
  return options;
}

PlacementSpec Arguments::placement(size_t index) {
  PlacementSpec spec;
  const uint32_t flags = number<uint32_t>(index);
  spec.incoming = (flags & kIncoming) != 0;
  spec.standing = (flags & kStanding) != 0;
  spec.checksum = (flags & kChecksum) != 0;
  spec.rank = std::min((flags >> kRankShift) & kRankBits, kRanks - 1);
  spec.grant = number<uint64_t>(index + 1);
  spec.generation = number<uint32_t>(index + 2);
  spec.region = region_of(number<uint32_t>(index + 3));
  if (failed_) return spec;
  if (spec.region == nullptr) {
    throw_failure(info_.Env(), {Code::invalid_argument, "the region is closed"});
    failed_ = true;
    return spec;
  }
  if (spec.grant == 0) fail("a grant above 0");
  if (!planes_of(info_[index + 4], &spec.planes)) fail("planes of 11 integers each");
  if (!read_block_lists(info_[index + 5], &spec)) fail("an array of Uint32Arrays of blocks");
  if (!read_chunks(info_[index + 6], &spec)) fail("chunks of 3 integers each");
  if (!is_array_of(info_[index + 7], napi_uint32_array)) {
    fail("a Uint32Array of committed chunks");
  } else {
    const auto committed = info_[index + 7].As<Napi::Uint32Array>();
    spec.committed.assign(committed.Data(), committed.Data() + committed.ElementLength());
  }
  if (!read_codecs(info_[index + 8], &spec)) fail("an array of codecs, one for each plane");
  spec.position = number<uint32_t>(index + 9);
  return spec;
}

bool Arguments::read_block_lists(Napi::Value value, PlacementSpec* spec) {
  if (!value.IsArray()) return false;
  const auto lists = value.As<Napi::Array>();
  for (uint32_t index = 0; index < lists.Length(); index++) {
    const Napi::Value list = lists[index];
    if (!is_array_of(list, napi_uint32_array)) return false;
    const auto blocks = list.As<Napi::Uint32Array>();
    spec->block_lists.emplace_back(blocks.Data(), blocks.Data() + blocks.ElementLength());
  }
  return true;
}

// undefined among them: the plane has none.
bool Arguments::read_codecs(Napi::Value value, PlacementSpec* spec) {
  if (!value.IsArray()) return false;
  const auto codecs = value.As<Napi::Array>();
  for (uint32_t index = 0; index < codecs.Length(); index++) {
    const Napi::Value codec = codecs[index];
    spec->codecs.push_back(chunk_codec_of(codec));
    if (spec->codecs.back() == nullptr && !codec.IsUndefined()) return false;
  }
  return true;
}

bool Arguments::read_chunks(Napi::Value value, PlacementSpec* spec) {
  if (!is_array_of(value, napi_float64_array)) return false;
  const auto numbers = value.As<Napi::Float64Array>();
  if (numbers.ElementLength() % kChunkNumbers != 0) return false;
  spec->chunks.resize(numbers.ElementLength() / kChunkNumbers);
  const double* at = numbers.Data();
  bool right = true;
  for (ChunkRange& chunk : spec->chunks) {
    right = right && take_integer(at[0], &chunk.plane) && take_integer(at[1], &chunk.start) && take_integer(at[2], &chunk.bytes);
    at += kChunkNumbers;
  }
  return right;
}

}  // namespace kvferry
