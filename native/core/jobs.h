// Work on memory that takes longer than a turn of the event loop may: checksums over blocks, copies between layouts. A few threads, a
// bounded queue; results are collected by the JavaScript thread, which is woken through `on_done`.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "region.h"
#include "runs.h"
#include "thread.h"

namespace kvferry {

// A stream over some planes in order, one after the other, each over the same blocks.
struct Stream {
  std::shared_ptr<Region> region;
  std::vector<Plane> planes;
  std::vector<uint32_t> blocks;
};

struct Job {
  uint32_t id;
  Stream from;
  Stream to;  // of a copy; no region: a checksum
};

struct JobResult {
  uint32_t id;
  // Checksum: CRC32C of each block over all planes in order.
  std::vector<uint32_t> checksums;
};

class Jobs {
 public:
  Jobs(uint32_t queue_jobs, std::function<void()> on_done);
  ~Jobs();
  // False: the host has no threads left.
  bool start(uint32_t threads);
  // The job has passed `job_fits`. False: full.
  bool submit(Job job);
  std::vector<JobResult> collect();
  // Drops what waits, stops what runs within a piece of it, and returns when nothing touches any region. Idempotent.
  void close();

 private:
  void work();
  JobResult run(const Job& job) const;
  std::vector<uint32_t> checksums(const Stream& stream) const;
  void copy(const Stream& from, const Stream& to) const;

  const uint32_t queue_jobs_;
  const std::function<void()> on_done_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job> queue_;
  std::vector<JobResult> done_;
  uint32_t under_way_ = 0;
  std::atomic<bool> closed_ = false;  // set under the mutex
  std::vector<std::unique_ptr<Thread>> threads_;
};

// True if both streams are of the same length and lie in their regions, and what is written may be. Checksums are of whole blocks.
bool job_fits(const Job& job);

}  // namespace kvferry
