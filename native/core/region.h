// Memory that links may touch. One table for the process, by number; whoever works on a region holds a shared_ptr, so closing the
// JavaScript handle never unmaps memory under a thread.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "backing.h"

namespace kvferry {

struct Region {
  uint32_t id = 0;
  uint8_t* base = nullptr;
  uint64_t bytes = 0;
  std::string path;                  // "" when private
  bool huge_pages = false;           // most of it lies in huge pages
  int numa_node = -1;                // -1: as the kernel likes
  bool read_only = false;            // nothing may be moved here
  std::shared_ptr<Mapping> mapping;  // nullptr: borrowed, the memory is somebody else's
  int file = -1;                     // the maker's descriptor: a pool's is locked as long as it is open, a buffer's path leads through it

  Region() = default;
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;
  ~Region();
};

enum class HugePages { off, automatic, on };

struct PoolFile {
  std::string path;
  uint64_t bytes;
  HugePages huge_pages;
  int numa_node;
};

// Makes or re-adopts a pool file: owned by this user, locked for this region, every byte backed by memory before it returns. A file of
// another size is replaced, never cut: whoever has it mapped keeps what he sees.
// nullptr: `problem` says why, and no new file is left behind. Takes as long as touching every page.
std::shared_ptr<Region> make_pool_region(const PoolFile& file, std::string* problem);
// Maps a pool of this user that another process owns; `bytes` of it. Pools are never cut.
std::shared_ptr<Region> attach_region(const std::string& path, uint64_t bytes, bool read_only, std::string* problem);
// Memory without a name in any file system (a memfd), sealed so that nobody can cut it. Its path leads there for others of this user, by way
// of /proc, as long as the region lives. Takes as long as touching every page.
std::shared_ptr<Region> make_buffer_region(uint64_t bytes, std::string* problem);
// Maps somebody else's buffer. Only what can be cut no more is taken, or what lets itself be sealed against that now: a file that shrinks
// under a mapping kills whoever touches what is gone.
std::shared_ptr<Region> attach_buffer_region(const std::string& path, uint64_t bytes, std::string* problem);
std::shared_ptr<Region> borrow_region(uint8_t* base, uint64_t bytes);

// Gives the region its number. Thread-safe, as the two below.
void enroll_region(const std::shared_ptr<Region>& region);
void retire_region(uint32_t id);
// nullptr if unknown or closed.
std::shared_ptr<Region> region_of(uint32_t id);

}  // namespace kvferry
