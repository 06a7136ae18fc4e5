// Arguments in, values out: no decision is taken here. Every method belongs to the JavaScript thread; a closed mover does nothing.
#include "mover.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../core/mover.h"
#include "../fake/mover.h"
#include "../tcp/mover.h"
#include "mover_arguments.h"
#include "wake.h"

namespace kvferry {
namespace {

using Info = const Napi::CallbackInfo&;

class MoverHandle : public Napi::ObjectWrap<MoverHandle> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit MoverHandle(Info info);
  ~MoverHandle() override { close(); }

 private:
  void close();
  Napi::Value js_close(Info info);
  Napi::Value js_set_tls(Info info);
  Napi::Value js_listen(Info info);
  Napi::Value js_open(Info info);
  Napi::Value js_dial(Info info);
  Napi::Value js_abandon(Info info);
  Napi::Value js_admit_lanes(Info info);
  Napi::Value js_open_lane(Info info);
  Napi::Value js_tune_lane(Info info);
  Napi::Value js_close_lane(Info info);
  Napi::Value js_rest_lane(Info info);
  Napi::Value js_pad_lane(Info info);
  Napi::Value js_send(Info info);
  Napi::Value js_disconnect(Info info);
  Napi::Value js_place(Info info);
  Napi::Value js_revoke(Info info);
  Napi::Value js_set_rank(Info info);
  Napi::Value js_submit(Info info);
  Napi::Value js_drain(Info info);
  Napi::Value js_message(Info info);
  Napi::Value js_detail(Info info);
  Napi::Value js_remote(Info info);
  Napi::Value js_peer(Info info);
  Napi::Value js_refused(Info info);
  Napi::Value js_refusals(Info info);
  Napi::Value js_lane_info(Info info);

  std::unique_ptr<Mover> mover_;
  Wake* wake_ = nullptr;
  Napi::Reference<Napi::ArrayBuffer> submissions_, completions_;
  Submission* submission_entries_ = nullptr;
  Event* completion_entries_ = nullptr;
};

Napi::Function MoverHandle::define(Napi::Env env) {
  return DefineClass(env, "NativeMover", {
    InstanceMethod<&MoverHandle::js_close>("close"),
    InstanceMethod<&MoverHandle::js_set_tls>("setTls"),
    InstanceMethod<&MoverHandle::js_listen>("listen"),
    InstanceMethod<&MoverHandle::js_open>("open"),
    InstanceMethod<&MoverHandle::js_dial>("dial"),
    InstanceMethod<&MoverHandle::js_abandon>("abandon"),
    InstanceMethod<&MoverHandle::js_admit_lanes>("admitLanes"),
    InstanceMethod<&MoverHandle::js_open_lane>("openLane"),
    InstanceMethod<&MoverHandle::js_tune_lane>("tuneLane"),
    InstanceMethod<&MoverHandle::js_close_lane>("closeLane"),
    InstanceMethod<&MoverHandle::js_rest_lane>("restLane"),
    InstanceMethod<&MoverHandle::js_pad_lane>("padLane"),
    InstanceMethod<&MoverHandle::js_send>("send"),
    InstanceMethod<&MoverHandle::js_disconnect>("disconnect"),
    InstanceMethod<&MoverHandle::js_place>("place"),
    InstanceMethod<&MoverHandle::js_revoke>("revoke"),
        InstanceMethod<&MoverHandle::js_set_rank>("setRank"),
    InstanceMethod<&MoverHandle::js_submit>("submit"),
    InstanceMethod<&MoverHandle::js_drain>("drain"),
    InstanceMethod<&MoverHandle::js_message>("message"),
    InstanceMethod<&MoverHandle::js_detail>("detail"),
    InstanceMethod<&MoverHandle::js_remote>("remote"),
    InstanceMethod<&MoverHandle::js_peer>("peer"),
    InstanceMethod<&MoverHandle::js_refused>("refused"),
    InstanceMethod<&MoverHandle::js_refusals>("refusals"),
    InstanceMethod<&MoverHandle::js_lane_info>("laneInfo"),
  });
}

MoverHandle::MoverHandle(Info info) : Napi::ObjectWrap<MoverHandle>(info) {
  Napi::Env env = info.Env();
  Arguments arguments(info);
  const std::string kind = arguments.text(0);
  const Bounds bounds = arguments.bounds(1);
  const uint32_t io_threads = arguments.number<uint32_t>(2);
  const Napi::Function on_wake = arguments.function(3);
  if (arguments.failed()) return;
  const auto wake = [this] { wake_->call(); };
  if (kind == "tcp") mover_ = std::make_unique<TcpMover>(bounds, io_threads, wake);
  if (kind == "fake") mover_ = std::make_unique<FakeMover>(bounds, wake);
  if (mover_ == nullptr) {
    throw_failure(env, {Code::invalid_argument, "no such kind of mover: " + kind});
    return;
  }
  wake_ = Wake::open(env, on_wake, [this] { close(); });
  if (wake_ == nullptr || !mover_->start()) {
    close();
    throw_failure(env, {Code::unsupported, "no threads or descriptors to be had"});
    return;
  }
  // The memory is JavaScript's, so that a view that outlives the mover is harmless.
  Napi::ArrayBuffer submissions = Napi::ArrayBuffer::New(env, size_t(bounds.submissions) * sizeof(Submission));
  Napi::ArrayBuffer completions = Napi::ArrayBuffer::New(env, size_t(bounds.completions) * sizeof(Event));
  submissions_ = Napi::Persistent(submissions);
  completions_ = Napi::Persistent(completions);
  submission_entries_ = static_cast<Submission*>(submissions.Data());
  completion_entries_ = static_cast<Event*>(completions.Data());
  info.This().As<Napi::Object>().Set("submissions", submissions);
  info.This().As<Napi::Object>().Set("completions", completions);
}

void MoverHandle::close() {
  if (mover_ != nullptr) mover_->close();
  mover_ = nullptr;
  if (Wake* wake = std::exchange(wake_, nullptr)) wake->close();
}

Napi::Value MoverHandle::js_close(Info info) {
  close();
  return info.Env().Undefined();
}

Napi::Value MoverHandle::js_set_tls(Info info) {
  Arguments arguments(info);
  const TlsMaterial material = arguments.tls_material(0);
  if (arguments.failed() || mover_ == nullptr) return info.Env().Undefined();
  if (Failure failure = mover_->set_tls(material)) throw_failure(info.Env(), failure);
  return info.Env().Undefined();
}

Napi::Value MoverHandle::js_listen(Info info) {
  Arguments arguments(info);
  const std::string host = arguments.text(0);
  const uint16_t port = arguments.number<uint16_t>(1);
  if (arguments.failed() || mover_ == nullptr) return info.Env().Undefined();
  Endpoint bound;
  if (Failure failure = mover_->listen(host, port, &bound)) {
    throw_failure(info.Env(), failure);
    return info.Env().Undefined();
  }
  return endpoint_value(info.Env(), bound);
}

Napi::Value MoverHandle::js_open(Info info) { return Napi::Number::New(info.Env(), mover_ == nullptr ? 0 : double(mover_->open())); }

Napi::Value MoverHandle::js_dial(Info info) {
  Arguments arguments(info);
  const uint64_t connection = arguments.number<uint64_t>(0);
  const std::vector<std::string> hosts = arguments.texts(1);
  const uint16_t port = arguments.number<uint16_t>(2);
  const uint32_t timeout_ms = arguments.number<uint32_t>(3);
  const std::string identity = arguments.text(4);
  if (!arguments.failed() && mover_ != nullptr) mover_->dial(connection, hosts, port, timeout_ms, identity);
  return info.Env().Undefined();
}

Napi::Value MoverHandle::js_abandon(Info info) {
  Arguments arguments(info);
  const uint64_t connection = arguments.number<uint64_t>(0);
  const Code code = Code(arguments.number<uint32_t>(1));
  const std::string detail = arguments.text(2);
  if (!arguments.failed() && mover_ != nullptr) mover_->abandon(connection, code, detail);
  return info.Env().Undefined();
}

Napi::Value MoverHandle::js_admit_lanes(Info info) {
  Arguments arguments(info);
  const uint64_t connection = arguments.number<uint64_t>(0);
  const uint8_t* token = arguments.token(1);
  const LaneOptions options = arguments.lane_options(2);
  if (arguments.failed() || mover_ == nullptr) return info.Env().Undefined();
  if (Failure failure = mover_->admit_lanes(connection, token, options)) throw_failure(info.Env(), failure);
  return info.Env().Undefined();
}

Napi::Value MoverHandle::js_open_lane(Info info) {
  Arguments arguments(info);
  const uint64_t connection = arguments.number<uint64_t>(0);
  const uint32_t lane = arguments.number<uint32_t>(1);
  const uint8_t* token = arguments.token(2);
  const LaneOptions options = arguments.lane_options(3);
  if (arguments.failed() || mover_ == nullptr) return info.Env().Undefined();
  if (Failure failure = mover_->open_lane(connection, lane, token, options)) throw_failure(info.Env(), failure);
  return info.Env().Undefined();
}

Napi::Value MoverHandle::js_tune_lane(Info info) {
  Arguments arguments(info);
  const uint64_t connection = arguments.number<uint64_t>(0);
  const uint32_t lane = arguments.number<uint32_t>(1);
  const LaneOptions options = arguments.lane_options(2);
  if (!arguments.failed() && mover_ != nullptr) mover_->tune_lane(connection, lane, options);
  return info.Env().Undefined();
}

Napi::Value MoverHandle::js_close_lane(Info info) {
  Arguments arguments(info);
  const uint64_t connection = arguments.number<uint64_t>(0);
  const uint32_t lane = arguments.number<uint32_t>(1);
  if (!arguments.failed() && mover_ != nullptr) mover_->close_lane(connection, lane);
  return info.Env().Undefined();
}

Napi::Value MoverHandle::js_rest_lane(Info info) {
  Arguments arguments(info);
  const uint64_t connection = arguments.number<uint64_t>(0);
  const uint32_t lane = arguments.number<uint32_t>(1);
  const uint32_t resting = arguments.number<uint32_t>(2);
  if (!arguments.failed() && mover_ != nullptr) mover_->rest_lane(connection, lane, resting != 0);
  return info.Env().Undefined();
}

Napi::Value MoverHandle::js_pad_lane(Info info) {
  Arguments arguments(info);
  const uint64_t connection = arguments.number<uint64_t>(0);
  const uint32_t lane = arguments.number<uint32_t>(1);
  const uint64_t bytes = arguments.number<uint64_t>(2);
  if (!arguments.failed() && mover_ != nullptr) mover_->pad_lane(connection, lane, bytes);
  return info.Env().Undefined();
}

Napi::Value MoverHandle::js_send(Info info) {
  Arguments arguments(info);
  const uint64_t connection = arguments.number<uint64_t>(0);
  const Bytes message = arguments.bytes(1);
  const bool taken = !arguments.failed() && mover_ != nullptr && mover_->send(connection, message.data, message.count);
  return Napi::Boolean::New(info.Env(), taken);
}

Napi::Value MoverHandle::js_disconnect(Info info) {
  Arguments arguments(info);
  const uint64_t connection = arguments.number<uint64_t>(0);
  if (!arguments.failed() && mover_ != nullptr) mover_->disconnect(connection);
  return info.Env().Undefined();
}

// 0 = the table is full.
Napi::Value MoverHandle::js_place(Info info) {
  Arguments arguments(info);
  const uint64_t connection = arguments.number<uint64_t>(0);
  PlacementSpec spec = arguments.placement(1);
  if (arguments.failed() || mover_ == nullptr) return info.Env().Undefined();
  uint64_t placement = 0;
  const Failure failure = mover_->place(connection, std::move(spec), &placement);
  if (failure && failure.code != Code::full) throw_failure(info.Env(), failure);
  return Napi::Number::New(info.Env(), double(placement));
}

Napi::Value MoverHandle::js_revoke(Info info) {
  Arguments arguments(info);
  const uint64_t placement = arguments.number<uint64_t>(0);
  if (!arguments.failed() && mover_ != nullptr) mover_->revoke(placement);
  return info.Env().Undefined();
}

Napi::Value MoverHandle::js_set_rank(Info info) {
  Arguments arguments(info);
  const uint64_t placement = arguments.number<uint64_t>(0);
  const uint32_t rank = arguments.number<uint32_t>(1);
  if (!arguments.failed() && mover_ != nullptr) mover_->set_rank(placement, rank);
  return info.Env().Undefined();
}

Napi::Value MoverHandle::js_submit(Info info) {
  Arguments arguments(info);
  const uint32_t count = arguments.number<uint32_t>(0);
  uint32_t taken = 0;
  if (arguments.failed() || mover_ == nullptr) return Napi::Number::New(info.Env(), 0);
  Failure failure = {Code::invalid_argument, "more submissions than the array holds"};
  if (count <= mover_->bounds.submissions) failure = mover_->submit(submission_entries_, count, &taken);
  if (failure) throw_failure(info.Env(), failure);
  return Napi::Number::New(info.Env(), taken);
}

Napi::Value MoverHandle::js_drain(Info info) {
  Arguments arguments(info);
  const uint32_t max = arguments.number<uint32_t>(0);
  if (arguments.failed() || mover_ == nullptr) return Napi::Number::New(info.Env(), 0);
  return Napi::Number::New(info.Env(), mover_->drain(completion_entries_, std::min(max, mover_->bounds.completions)));
}

Napi::Value MoverHandle::js_message(Info info) {
  Arguments arguments(info);
  const uint64_t connection = arguments.number<uint64_t>(0);
  if (arguments.failed()) return info.Env().Undefined();
  const std::vector<uint8_t> message = mover_ == nullptr ? std::vector<uint8_t>() : mover_->message(connection);
  Napi::Uint8Array copy = Napi::Uint8Array::New(info.Env(), message.size());
  if (!message.empty()) memcpy(copy.Data(), message.data(), message.size());
  return copy;
}

Napi::Value MoverHandle::js_detail(Info info) {
  Arguments arguments(info);
  const uint64_t connection = arguments.number<uint64_t>(0);
  if (arguments.failed()) return info.Env().Undefined();
  return Napi::String::New(info.Env(), mover_ == nullptr ? "" : mover_->detail(connection));
}

Napi::Value MoverHandle::js_remote(Info info) {
  Arguments arguments(info);
  const uint64_t connection = arguments.number<uint64_t>(0);
  if (arguments.failed()) return info.Env().Undefined();
  return endpoint_value(info.Env(), mover_ == nullptr ? Endpoint() : mover_->remote(connection));
}

Napi::Value MoverHandle::js_peer(Info info) {
  Arguments arguments(info);
  const uint64_t connection = arguments.number<uint64_t>(0);
  if (arguments.failed() || mover_ == nullptr) return info.Env().Undefined();
  const std::optional<TlsPeer> peer = mover_->peer(connection);
  return peer ? tls_peer_value(info.Env(), *peer) : info.Env().Undefined();
}

Napi::Value MoverHandle::js_refused(Info info) {
  const Refused refused = mover_ == nullptr ? Refused() : mover_->refused();
  Napi::Object value = Napi::Object::New(info.Env());
  value.Set("reason", uint32_t(refused.reason));
  value.Set("remote", endpoint_value(info.Env(), refused.remote));
  value.Set("detail", refused.detail);
  return value;
}

Napi::Value MoverHandle::js_refusals(Info info) {
  Napi::Array counts = Napi::Array::New(info.Env(), kRefusals);
  if (mover_ == nullptr) return counts;
  uint32_t reason = 0;
  for (const uint64_t count : mover_->refusal_counts()) counts.Set(reason++, Napi::Number::New(info.Env(), double(count)));
  return counts;
}

Napi::Value MoverHandle::js_lane_info(Info info) {
  Arguments arguments(info);
  const uint64_t connection = arguments.number<uint64_t>(0);
  if (arguments.failed()) return info.Env().Undefined();
  return lane_infos_value(info.Env(), mover_ == nullptr ? std::vector<LaneInfo>() : mover_->lane_info(connection));
}

}  // namespace

void init_mover(Napi::Env env, Napi::Object exports) { exports.Set("NativeMover", MoverHandle::define(env)); }

}  // namespace kvferry
