#include "mover.h"

#include <algorithm>

#include "clock.h"

namespace kvferry {
namespace {

// Lanes that live or have events JavaScript has not seen; more are refused.
constexpr uint32_t kLanesAlive = 8192;
// Refusals that JavaScript has not seen; more are only counted.
constexpr uint32_t kRefusalsTold = 16;

std::array<uint32_t, kQuotas> quotas(const Bounds& bounds) {
  std::array<uint32_t, kQuotas> quota;
  quota[size_t(Quota::submission)] = bounds.completions;
  quota[size_t(Quota::arrival)] = bounds.completions;
  quota[size_t(Quota::message)] = bounds.completions;
  quota[size_t(Quota::lane)] = 2 * kLanesAlive;
  quota[size_t(Quota::refusal)] = kRefusalsTold;
  quota[size_t(Quota::table)] = bounds.placements + 2 * bounds.connections;
  return quota;
}

}  // namespace

Mover::Mover(const Bounds& given, EventQueue::Callback wake)
    : bounds(given), events_(quotas(given), std::move(wake), [this] { refill(); }), refusals_(events_) {}

void Mover::rest_lane(uint64_t connection, uint32_t lane, bool resting) {
  const std::shared_ptr<Exchange> found = exchange(connection);
  if (found != nullptr) found->rest_lane(lane, resting);
}

Failure Mover::place(uint64_t connection, PlacementSpec&& spec, uint64_t* id) {
  std::shared_ptr<Exchange> exchange = this->exchange(connection);
  if (exchange == nullptr) return {Code::connection_lost, "the connection is gone"};
  if (placements_.size() >= bounds.placements) return {Code::full, ""};
  spec.id = next_placement_;
  auto placement = std::make_shared<Placement>(std::move(spec));
  if (Failure failure = placement->check(bounds.chunk_bytes)) return failure;
  if (Failure failure = exchange->place(placement)) return failure;
  *id = next_placement_++;
  placements_.emplace(*id, Placed{std::move(placement), std::move(exchange)});
  return {};
}

void Mover::revoke(uint64_t id) {
  const auto found = placements_.find(id);
  if (found != placements_.end()) found->second.exchange->revoke(*found->second.placement);
}

void Mover::set_rank(uint64_t id, uint32_t rank) {
  const auto found = placements_.find(id);
  if (found != placements_.end()) found->second.exchange->set_rank(*found->second.placement, std::min(rank, kRanks - 1));
}

Failure Mover::check_submissions(const Submission* submissions, uint32_t count) {
  for (uint32_t index = 0; index < count; index++) {
    const Submission& submission = submissions[index];
    const bool is_id = submission.placement >= 1 && submission.placement < double(uint64_t(1) << 53);
    const auto found = is_id ? placements_.find(uint64_t(submission.placement)) : placements_.end();
    if (found == placements_.end()) return {Code::invalid_argument, "a chunk of a placement that is not there"};
    const Placement& placement = *found->second.placement;
    if (placement.spec.incoming || placement.revoked.load()) return {Code::invalid_argument, "a chunk of a placement that is incoming or revoked"};
    if (submission.chunk >= placement.spec.chunks.size()) return {Code::invalid_argument, "a chunk beyond the placement's list"};
    if (submission.sequence == 0) return {Code::invalid_argument, "a chunk of sequence 0"};
  }
  return {};
}

Failure Mover::submit(const Submission* submissions, uint32_t count, uint32_t* taken) {
  *taken = 0;
  if (Failure failure = check_submissions(submissions, count)) return failure;
  const uint64_t now = now_us();
  for (; *taken < count; *taken += 1) {
    const Submission& submission = submissions[*taken];
    const Placed& placed = placements_.find(uint64_t(submission.placement))->second;
    if (!events_.reserve(Quota::submission)) break;
    if (placed.exchange->queue(*placed.placement, {submission.chunk, submission.sequence, now}) != Queueing::queued) {
      events_.release(Quota::submission);
      break;
    }
    Exchange* exchange = placed.exchange.get();
    if (std::find(touched_.begin(), touched_.end(), exchange) == touched_.end()) touched_.push_back(exchange);
  }
  for (Exchange* exchange : touched_) kick(*exchange);
  touched_.clear();
  return {};
}

uint32_t Mover::drain(Event* completions, uint32_t max) {
  const size_t count = events_.drain(completions, max);
  for (size_t index = 0; index < count; index++) {
    if (completions[index].kind == EventKind::revoked) placements_.erase(uint64_t(completions[index].subject));
  }
  return uint32_t(count);
}

std::string Mover::detail(uint64_t connection) {
  std::shared_ptr<Exchange> exchange = this->exchange(connection);
  if (exchange == nullptr) return "";
  forget(connection);
  return exchange->detail();
}

}  // namespace kvferry
