#include "backing.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "thread.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace kvferry {
namespace {

constexpr int kPreferNode = 1;  // MPOL_PREFERRED: the node if it has memory, else its neighbours
constexpr int kNodesMax = 1024;
constexpr size_t kPopulateThreads = 4;

long file_system(int descriptor, uint64_t* block_bytes = nullptr) {
  struct statfs system;
  if (fstatfs(descriptor, &system) != 0) return 0;
  if (block_bytes != nullptr) *block_bytes = uint64_t(system.f_bsize);
  return long(system.f_type);
}

bool read_number(const std::string& path, uint64_t* number) {
  std::ifstream file(path);
  std::string word;
  if (!(file >> word) || word.empty() || word.find_first_not_of("0123456789") != std::string::npos) return false;
  *number = strtoull(word.c_str(), nullptr, 10);
  return true;
}

// What the kernel thinks it can hand out without swapping.
uint64_t available_bytes() {
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    uint64_t kibibytes;
    if (sscanf(line.c_str(), "MemAvailable: %" SCNu64, &kibibytes) == 1) return kibibytes * 1024;
  }
  return UINT64_MAX;
}

// What the tightest of this process's control groups (version 2) leaves: beyond it the kernel kills instead of refusing.
uint64_t cgroup_bytes() {
  std::ifstream file("/proc/self/cgroup");
  std::string path;
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("0::/", 0) == 0) path = line.substr(3);
  }
  uint64_t least = UINT64_MAX;
  while (true) {
    const std::string folder = "/sys/fs/cgroup" + (path == "/" ? "" : path);
    uint64_t limit, current;
    if (read_number(folder + "/memory.max", &limit) && read_number(folder + "/memory.current", &current)) {
      least = std::min(least, limit > current ? limit - current : 0);
    }
    const size_t slash = path.rfind('/');
    if (path.empty() || slash == std::string::npos) return least;
    path.resize(slash);
  }
}

std::string mebibytes(uint64_t bytes) { return std::to_string(bytes >> 20) + " MiB"; }

}  // namespace

Mapping::~Mapping() {
  if (base != nullptr) munmap(base, mapped_bytes);
}

std::shared_ptr<Mapping> map_file(int descriptor, uint64_t bytes, bool read_only) {
  auto mapping = std::make_shared<Mapping>();
  const uint64_t mapped_bytes = file_bytes(descriptor, bytes);
  const int protection = PROT_READ | (read_only && is_hugetlbfs(descriptor) ? 0 : PROT_WRITE);
  void* memory = mmap(nullptr, mapped_bytes, protection, read_only ? MAP_PRIVATE | MAP_NORESERVE : MAP_SHARED, descriptor, 0);
  if (memory == MAP_FAILED) return nullptr;
  mapping->base = static_cast<uint8_t*>(memory);
  mapping->mapped_bytes = mapped_bytes;
  return mapping;
}

bool is_hugetlbfs(int descriptor) { return file_system(descriptor) == long(HUGETLBFS_MAGIC); }
bool is_tmpfs(int descriptor) { return file_system(descriptor) == long(TMPFS_MAGIC); }

uint64_t file_bytes(int descriptor, uint64_t bytes) {
  uint64_t block_bytes = 0;
  if (file_system(descriptor, &block_bytes) != long(HUGETLBFS_MAGIC) || block_bytes == 0) return bytes;
  return (bytes + block_bytes - 1) / block_bytes * block_bytes;
}

bool has_room(int descriptor, uint64_t missing_bytes, std::string* detail) {
  const auto enough = [&](uint64_t bytes, const char* what) {
    if (missing_bytes <= bytes) return true;
    *detail = std::string(what) + " " + mebibytes(bytes) + ", " + mebibytes(missing_bytes) + " are needed";
    return false;
  };
  // Huge pages are counted apart from all that; mapping a file there reserves them or fails.
  if (is_hugetlbfs(descriptor)) return true;
  struct statvfs system;
  // A tmpfs without a limit of its own, a memfd's for one, has no blocks at all to count.
  const bool counted = fstatvfs(descriptor, &system) == 0 && system.f_blocks > 0;
  if (counted && !enough(uint64_t(system.f_bavail) * system.f_frsize, "the file system has")) return false;
  // What a disk backs may be written out again.
  if (!is_tmpfs(descriptor)) return true;
  return enough(available_bytes(), "the host has") && enough(cgroup_bytes(), "the control group has");
}

int reserve(int descriptor, uint64_t bytes) {
  while (fallocate(descriptor, 0, 0, off_t(bytes)) != 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

bool can_populate(uint8_t* base) {
  return madvise(base, size_t(sysconf(_SC_PAGESIZE)), MADV_POPULATE_WRITE) == 0 || errno != EINVAL;
}

bool populate(uint8_t* base, uint64_t bytes) {
  const uint64_t page = uint64_t(sysconf(_SC_PAGESIZE));
  const bool by_kernel = can_populate(base);
  std::atomic<bool> fine = true;
  const auto touch = [&](uint64_t from, uint64_t to) {
    if (by_kernel) {
      if (madvise(base + from, to - from, MADV_POPULATE_WRITE) != 0) fine = false;
      return;
    }
    for (uint64_t at = from; at < to; at += page) __atomic_fetch_add(base + at, 0, __ATOMIC_RELAXED);
  };
  const size_t count = std::clamp<size_t>(size_t(sysconf(_SC_NPROCESSORS_ONLN)), 1, kPopulateThreads);
  // Parts of whole huge pages, so that no two threads make the same one.
  constexpr uint64_t kAlignment = 2 << 20;
  const uint64_t part = (bytes / count + kAlignment - 1) / kAlignment * kAlignment;
  std::array<Thread, kPopulateThreads> threads;
  for (size_t index = 1; index < count && index * part < bytes; index++) {
    const uint64_t from = index * part, to = std::min(bytes, from + part);
    if (!threads[index].start("kvferry-populate", [&touch, from, to] { touch(from, to); })) touch(from, to);
  }
  touch(0, std::min(bytes, part));
  for (Thread& thread : threads) thread.join();
  return fine;
}

bool prefer_node(uint8_t* base, uint64_t bytes, int node) {
  constexpr int kBits = 8 * sizeof(unsigned long);
  if (node < 0 || node >= kNodesMax) return false;
  std::array<unsigned long, kNodesMax / kBits> nodes = {};
  nodes[size_t(node / kBits)] = 1ul << (node % kBits);
  return syscall(SYS_mbind, base, bytes, kPreferNode, nodes.data(), kNodesMax + 1ul, 0u) == 0;
}

uint64_t transparent_huge_bytes(const uint8_t* base) {
  std::ifstream file("/proc/self/smaps");
  char begin[24];
  snprintf(begin, sizeof begin, "%" PRIxPTR "-", uintptr_t(base));
  bool here = false;
  for (std::string line; std::getline(file, line);) {
    uint64_t kibibytes;
    if (line.rfind(begin, 0) == 0) here = true;
    else if (here && sscanf(line.c_str(), "ShmemPmdMapped: %" SCNu64, &kibibytes) == 1) return kibibytes * 1024;
  }
  return 0;
}

}  // namespace kvferry
