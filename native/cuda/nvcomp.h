// NVIDIA's library of coders (ANS, Bitcomp), where a host has it: opened when somebody asks. kvferry uses version 6: before it arguments and names were others, and
// what one version writes another need not read.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "../codec/spec.h"

namespace kvferry::cuda {

struct NvcompInfo {
  std::string version;  // "" if there is none
  std::string problem;  // "" if it can be used
};
// Looked for once.
const NvcompInfo& nvcomp_info();

// Of streams in their blocks, and of codes.
constexpr size_t kNvcompAlignment = 16;
// Codes that it takes as one.
constexpr size_t kNvcompBytesMax = 16 << 20;

// Lists of `count`, and what they point to, in the device's memory.
struct NvcompLists {
  const void* const* from;
  const size_t* from_bytes;
  void* const* to;
  const size_t* room;  // while decoding
  size_t* to_bytes;    // comes back, as the next
  int* statuses;       // 0: it is done
  size_t count;
  size_t most, total;  // bytes of codes
};

// One of its coders for the codes of a spec. Calls return 0, or a status that `explain` has words for.
class Nvcomp {
 public:
  // `path`: a library in place of the host's, "" = none. nullptr: `problem` says why.
  static std::unique_ptr<const Nvcomp> open(const codec::Spec& spec, const std::string& path, std::string* problem);
  virtual ~Nvcomp() = default;

  // No stream of so many bytes of codes is longer; 0: it does not take as many.
  virtual size_t bound(size_t bytes) const = 0;
  // Within the device's context, as `run`: bytes of memory that this takes for so many tiles.
  virtual int work_bytes(bool decodes, size_t count, size_t most, size_t total, void* stream, size_t* bytes) const = 0;
  // Asynchronous, on `stream`. Bitcomp does what a stream says, whatever it overwrites: none of its streams may be a stranger's.
  virtual int run(bool decodes, const NvcompLists& lists, uint8_t* work, size_t work_bytes, void* stream) const = 0;
  virtual std::string explain(int status) const = 0;
};

}  // namespace kvferry::cuda
