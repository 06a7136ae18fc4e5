// How a file comes to lie in memory: mapped, and every page of it there before the first use, because later it would be a
// SIGBUS.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

namespace kvferry {

// Memory of a file, mapped for as long as somebody holds this.
struct Mapping {
  uint8_t* base = nullptr;
  uint64_t mapped_bytes = 0;

  Mapping() = default;
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping();
};

// nullptr: errno says why. `bytes` are rounded up to whole huge pages where the file system has such. Read only: what is written
// there all the same stays with this process (a fault would end it), except on a hugetlbfs.
std::shared_ptr<Mapping> map_file(int descriptor, uint64_t bytes, bool read_only);

bool is_hugetlbfs(int descriptor);
bool is_tmpfs(int descriptor);

// Bytes of the file's size for a pool of so many bytes: a hugetlbfs has whole huge pages only.
uint64_t file_bytes(int descriptor, uint64_t bytes);

// Whether file system, host and cgroup have so many more bytes; `detail` says which has not.
bool has_room(int descriptor, uint64_t missing_bytes, std::string* detail);
// Reserves every byte in the file system; 0 or an errno.
int reserve(int descriptor, uint64_t bytes);
// Touches every page without changing it, in a few threads: the first touch is slow. False: there is no memory.
bool populate(uint8_t* base, uint64_t bytes);
// False on kernels before 5.14: there `populate` can only touch, and must be preceded by `reserve`.
bool can_populate(uint8_t* base);

// Pages that are not there yet come from this node if it has any. False: this host has no such node.
bool prefer_node(uint8_t* base, uint64_t bytes, int node);
// How much of the mapping lies in transparent huge pages, as the kernel accounts it.
uint64_t transparent_huge_bytes(const uint8_t* base);

}  // namespace kvferry
