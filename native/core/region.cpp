#include "region.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>

// Linux 6.3: not executable, and sealable. The sysctl vm.memfd_noexec can demand it.
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

namespace kvferry {
namespace {

constexpr int kOpenAttempts = 8;
constexpr const char* kBufferName = "kvferry-buffer";

struct Descriptor {
  int number = -1;
  explicit Descriptor(int opened) : number(opened) {}
  Descriptor(Descriptor&& other) noexcept : number(std::exchange(other.number, -1)) {}
  ~Descriptor() {
    if (number >= 0) close(number);
  }
};

std::nullptr_t say(std::string* problem, const std::string& path, const std::string& what) {
  *problem = path + ": " + what;
  return nullptr;
}
std::nullptr_t say_error(std::string* problem, const std::string& path, const char* what, int error) {
  return say(problem, path, std::string(what) + ": " + strerror(error));
}

// A regular file of this user; not a pipe on which opening or reading would wait.
bool is_ours(int descriptor, struct stat* status) {
  return fstat(descriptor, status) == 0 && S_ISREG(status->st_mode) && status->st_uid == geteuid();
}

// Whether the path still leads to the file that was opened: a former owner may have removed it in between.
bool is_at(const std::string& path, const struct stat& opened) {
  struct stat found;
  return lstat(path.c_str(), &found) == 0 && found.st_dev == opened.st_dev && found.st_ino == opened.st_ino;
}

// The pool's file, locked. `status` is what it was when the lock was got; a size of 0 means that it is new.
Descriptor open_locked(const std::string& path, uint64_t bytes, struct stat* status, std::string* problem) {
  for (int attempt = 0; attempt < kOpenAttempts; attempt++) {
    Descriptor file(open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600));
    const auto refuse = [&] { return Descriptor(-1); };
    if (file.number < 0) return say_error(problem, path, "cannot be opened", errno), refuse();
    if (!is_ours(file.number, status)) return say(problem, path, "is not a file of this user"), refuse();
    if (flock(file.number, LOCK_EX | LOCK_NB) != 0) {
      if (errno == EWOULDBLOCK) say(problem, path, "is in use by another owner");
      else say_error(problem, path, "cannot be locked", errno);
      return refuse();
    }
    if (!is_ours(file.number, status) || !is_at(path, *status)) continue;
    if (status->st_size == 0 || uint64_t(status->st_size) == file_bytes(file.number, bytes)) return file;
    unlink(path.c_str());
  }
  say(problem, path, "changes all the time");
  return Descriptor(-1);
}

// Maps the file and makes every page of it be there; nullptr with `problem`.
std::shared_ptr<Region> back(int descriptor, const PoolFile& file, uint64_t missing_bytes, std::string* problem) {
  const uint64_t size = file_bytes(descriptor, file.bytes);
  std::string detail;
  if (!has_room(descriptor, missing_bytes, &detail)) return say(problem, file.path, detail);
  fchmod(descriptor, 0600);
  if (ftruncate(descriptor, off_t(size)) != 0) return say_error(problem, file.path, "cannot have that size", errno);
  auto region = std::make_shared<Region>();
  region->mapping = map_file(descriptor, file.bytes, false);
  if (region->mapping == nullptr) return say_error(problem, file.path, "cannot be mapped", errno);
  region->base = region->mapping->base;
  region->bytes = file.bytes;
  region->path = file.path;

  // Before the first page is there, so that reserving heeds the node and populating makes huge pages.
  const bool hugetlbfs = is_hugetlbfs(descriptor);
  if (!hugetlbfs) madvise(region->base, size, file.huge_pages == HugePages::off ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
  if (prefer_node(region->base, size, file.numa_node)) region->numa_node = file.numa_node;
  const bool populate_first = (hugetlbfs || is_tmpfs(descriptor)) && can_populate(region->base);
  if (populate_first && !populate(region->base, size)) return say(problem, file.path, "there is not enough memory to back the pool");
  // hugetlbfs reserves when it is mapped; where nothing reserves, a full disk would be noticed by a signal.
  const int error = reserve(descriptor, size);
  if (error != 0 && !(hugetlbfs && error == EOPNOTSUPP)) return say_error(problem, file.path, "cannot hold the pool", error);
  if (!populate_first && !populate(region->base, size)) return say(problem, file.path, "there is not enough memory to back the pool");
  const bool looked_for = file.huge_pages != HugePages::off && !hugetlbfs;
  region->huge_pages = hugetlbfs || (looked_for && transparent_huge_bytes(region->base) >= size / 2);
  return region;
}

std::shared_ptr<Region> map_region(int descriptor, const std::string& path, uint64_t bytes, bool read_only, std::string* problem) {
  auto region = std::make_shared<Region>();
  region->mapping = map_file(descriptor, bytes, read_only);
  if (region->mapping == nullptr) return say_error(problem, path, "cannot be mapped", errno);
  region->base = region->mapping->base;
  region->bytes = bytes;
  region->path = path;
  region->huge_pages = is_hugetlbfs(descriptor);
  region->read_only = read_only;
  return region;
}

Descriptor open_memory() {
  const int sealable = memfd_create(kBufferName, MFD_CLOEXEC | MFD_NOEXEC_SEAL);
  if (sealable >= 0 || errno != EINVAL) return Descriptor(sealable);
  return Descriptor(memfd_create(kBufferName, MFD_CLOEXEC | MFD_ALLOW_SEALING));
}

// Whether it is sealed against being cut, by its maker or now. Files with a name in a file system never are.
bool can_only_grow(int descriptor) {
  const int seals = fcntl(descriptor, F_GET_SEALS);
  return seals >= 0 && ((seals & F_SEAL_SHRINK) != 0 || fcntl(descriptor, F_ADD_SEALS, F_SEAL_SHRINK) == 0);
}

std::mutex table_mutex;
// Never destroyed: threads of an environment that ends late may still look things up.
std::map<uint32_t, std::shared_ptr<Region>>& table() {
  static auto* regions = new std::map<uint32_t, std::shared_ptr<Region>>;
  return *regions;
}

}  // namespace

Region::~Region() {
  if (file < 0) return;
  // Closing alone would not do: a mapping, which a view may keep, holds on to the open file and so to its lock.
  flock(file, LOCK_UN);
  close(file);
}

std::shared_ptr<Region> make_pool_region(const PoolFile& file, std::string* problem) {
  struct stat status;
  Descriptor descriptor = open_locked(file.path, file.bytes, &status, problem);
  if (descriptor.number < 0) return nullptr;
  const uint64_t backed = uint64_t(status.st_blocks) * 512;
  std::shared_ptr<Region> region = back(descriptor.number, file, file.bytes > backed ? file.bytes - backed : 0, problem);
  if (region == nullptr) {
    // A file that was there before may hold published blocks: it stays.
    if (status.st_size == 0) unlink(file.path.c_str());
    return nullptr;
  }
  region->file = std::exchange(descriptor.number, -1);
  return region;
}

std::shared_ptr<Region> attach_region(const std::string& path, uint64_t bytes, bool read_only, std::string* problem) {
  const Descriptor file(open(path.c_str(), (read_only ? O_RDONLY : O_RDWR) | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
  if (file.number < 0) return say_error(problem, path, "cannot be opened", errno);
  struct stat status;
  if (!is_ours(file.number, &status)) return say(problem, path, "is not a file of this user");
  if (uint64_t(status.st_size) < bytes) return say(problem, path, "has " + std::to_string(status.st_size) + " bytes, fewer than asked for");
  // Holes could find no memory when they are touched: fill them now, or say so.
  if (read_only) {
    const bool holes = is_tmpfs(file.number) && uint64_t(status.st_blocks) * 512 < bytes;
    if (holes) return say(problem, path, "has holes");
  } else if (const int error = reserve(file.number, bytes); error != 0) {
    return say_error(problem, path, "cannot be backed", error);
  }
  return map_region(file.number, path, bytes, read_only, problem);
}

std::shared_ptr<Region> make_buffer_region(uint64_t bytes, std::string* problem) {
  Descriptor descriptor = open_memory();
  if (descriptor.number < 0) return say_error(problem, kBufferName, "cannot be made", errno);
  const std::string path = "/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(descriptor.number);
  std::shared_ptr<Region> region = back(descriptor.number, {path, bytes, HugePages::off, -1}, bytes, problem);
  if (region == nullptr) return nullptr;
  if (!can_only_grow(descriptor.number)) return say_error(problem, path, "cannot be sealed", errno);
  region->file = std::exchange(descriptor.number, -1);
  return region;
}

std::shared_ptr<Region> attach_buffer_region(const std::string& path, uint64_t bytes, std::string* problem) {
  // The path is a link in /proc. It is looked at before it is opened: opening something else could wait, or do things.
  const Descriptor found(open(path.c_str(), O_PATH | O_CLOEXEC));
  if (found.number < 0) return say_error(problem, path, "cannot be opened", errno);
  struct stat status;
  if (!is_ours(found.number, &status)) return say(problem, path, "is not a file of this user");
  const Descriptor file(open(("/proc/self/fd/" + std::to_string(found.number)).c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (file.number < 0) return say_error(problem, path, "cannot be opened", errno);
  // Ordinary pages only: a hole that is punched there is filled again at the next touch, huge pages may have run out by then.
  if (!is_tmpfs(file.number) || !can_only_grow(file.number)) return say(problem, path, "could be cut by others: it is no memfd with F_SEAL_SHRINK");
  if (!is_ours(file.number, &status) || uint64_t(status.st_size) < bytes) return say(problem, path, "has fewer bytes than asked for");
  if (const int error = reserve(file.number, bytes); error != 0) return say_error(problem, path, "cannot be backed", error);
  return map_region(file.number, path, bytes, false, problem);
}

std::shared_ptr<Region> borrow_region(uint8_t* base, uint64_t bytes) {
  auto region = std::make_shared<Region>();
  region->base = base;
  region->bytes = bytes;
  return region;
}

void enroll_region(const std::shared_ptr<Region>& region) {
  static uint32_t next = 1;
  const std::lock_guard guard(table_mutex);
  region->id = next++;
  table()[region->id] = region;
}

void retire_region(uint32_t id) {
  std::shared_ptr<Region> last;  // let go of outside the lock
  const std::lock_guard guard(table_mutex);
  const auto found = table().find(id);
  if (found == table().end()) return;
  last = std::move(found->second);
  table().erase(found);
}

std::shared_ptr<Region> region_of(uint32_t id) {
  const std::lock_guard guard(table_mutex);
  const auto found = table().find(id);
  return found == table().end() ? nullptr : found->second;
}

}  // namespace kvferry
