#include "jobs.h"

#include <algorithm>
#include <utility>

#include "crc32c.h"

namespace kvferry {
namespace {

// Piece of a copy that goes through the cache.
constexpr uint64_t kPieceBytes = 256 * 1024;
// Looking at `closed_` costs nothing beside that much work.
constexpr uint64_t kChecksumPieceBytes = 1 << 20;

bool stream_bytes(const Stream& stream, uint64_t* total) {
  *total = 0;
  for (const Plane& plane : stream.planes) {
    if (!plane_fits(plane, stream.blocks.data(), stream.blocks.size(), stream.region->bytes)) return false;
    uint64_t bytes;
    if (__builtin_mul_overflow(plane.block_bytes(), uint64_t(stream.blocks.size()), &bytes)) return false;
    if (__builtin_add_overflow(*total, bytes - plane.first_token * plane.token_bytes(), total)) return false;
  }
  return true;
}

// Walks one stream in pieces, plane after plane.
class Walker {
 public:
  explicit Walker(const Stream& stream) : stream_(stream), cursor_(cursor(0)) {}
  RunCursor& here() {
    while (cursor_.left() == 0 && plane_ + 1 < stream_.planes.size()) cursor_ = cursor(++plane_);
    return cursor_;
  }

 private:
  RunCursor cursor(size_t index) const {
    const Plane& plane = stream_.planes[index];
    const uint64_t skipped = plane.first_token * plane.token_bytes();
    return RunCursor(plane, stream_.blocks.data(), stream_.blocks.size(), 0, plane.block_bytes() * stream_.blocks.size() - skipped);
  }
  const Stream& stream_;
  size_t plane_ = 0;
  RunCursor cursor_;
};

}  // namespace

bool job_fits(const Job& job) {
  uint64_t from, to;
  if (job.from.region == nullptr || job.from.planes.empty() || !stream_bytes(job.from, &from)) return false;
  if (job.to.region == nullptr) {
    const auto is_whole = [](const Plane& plane) { return plane.first_token == 0; };
    return std::all_of(job.from.planes.begin(), job.from.planes.end(), is_whole);
  }
  return !job.to.region->read_only && !job.to.planes.empty() && stream_bytes(job.to, &to) && from == to;
}

Jobs::Jobs(uint32_t queue_jobs, std::function<void()> on_done) : queue_jobs_(queue_jobs), on_done_(std::move(on_done)) {}

Jobs::~Jobs() { close(); }

bool Jobs::start(uint32_t threads) {
  for (uint32_t index = 0; index < threads; index++) {
    threads_.push_back(std::make_unique<Thread>());
    if (!threads_.back()->start("kvferry-job", [this] { work(); })) return false;
  }
  return threads > 0;
}

bool Jobs::submit(Job job) {
  const std::lock_guard guard(mutex_);
  // Results that wait to be collected count: whoever does not collect them gets no more work done.
  if (closed_ || queue_.size() + under_way_ + done_.size() >= queue_jobs_) return false;
  queue_.push_back(std::move(job));
  wake_.notify_one();
  return true;
}

std::vector<JobResult> Jobs::collect() {
  const std::lock_guard guard(mutex_);
  return std::exchange(done_, {});
}

void Jobs::close() {
  {
    const std::lock_guard guard(mutex_);
    closed_ = true;
    queue_.clear();
  }
  wake_.notify_all();
  for (const auto& thread : threads_) thread->join();
}

void Jobs::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return closed_ || !queue_.empty(); });
    if (closed_) return;
    Job job = std::move(queue_.front());
    queue_.pop_front();
    under_way_++;
    lock.unlock();
    JobResult result = run(job);
    job = {};  // lets go of the regions before anybody hears that it is done
    lock.lock();
    under_way_--;
    done_.push_back(std::move(result));
    // Under the lock, so that nobody is woken after close() returned.
    if (!closed_) on_done_();
  }
}

JobResult Jobs::run(const Job& job) const {
  if (job.to.region == nullptr) return {job.id, checksums(job.from)};
  copy(job.from, job.to);
  return {job.id, {}};
}

std::vector<uint32_t> Jobs::checksums(const Stream& stream) const {
  std::vector<uint32_t> sums(stream.blocks.size(), 0);
  // Block by block: a block's planes often lie together.
  for (size_t index = 0; index < stream.blocks.size(); index++) {
    for (const Plane& plane : stream.planes) {
      RunCursor cursor(plane, &stream.blocks[index], 1, 0, plane.block_bytes());
      for (Run run; cursor.next(&run, kChecksumPieceBytes);) {
        if (closed_) return sums;
        sums[index] = crc32c(sums[index], stream.region->base + run.offset, run.bytes);
      }
    }
  }
  return sums;
}

void Jobs::copy(const Stream& from, const Stream& to) const {
  std::vector<uint8_t> piece(kPieceBytes);
  Walker source(from), target(to);
  while (!closed_ && source.here().left() > 0) {
    const uint64_t count = std::min({kPieceBytes, source.here().left(), target.here().left()});
    if (count == 0) return;
    gather(piece.data(), from.region->base, source.here(), count);
    scatter(to.region->base, target.here(), piece.data(), count);
  }
}

}  // namespace kvferry
