// GPUs through the CUDA driver, which is opened when somebody first asks: nothing is linked with it, and a host without it runs everything else.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "device.h"

namespace kvferry::cuda {

struct GpuInfo {
  std::string name;
  uint32_t major, minor;  // of its compute capability
  uint32_t multiprocessors;
  uint64_t bytes;
};

// What this host has. `problem`: why no kernel of ours can run here, "" if one can.
struct DriverInfo {
  std::string problem;
  uint32_t version = 0;  // of CUDA, as 1000 x major + 10 x minor
  std::vector<GpuInfo> gpus;
};
// Asked once.
const DriverInfo& driver_info();

// The kernels that this build has: PTX and machine code of several architectures; 0 bytes where it was made without nvcc.
struct KernelImage {
  const uint8_t* data;
  size_t bytes;
};
KernelImage kernel_image();

// A GPU, with a stream of its own in the context that all in this process share. Copies and launches are asynchronous; only `wait` waits, and copies from and to memory
// that is not pinned.
class Gpu : public Device {
 public:
  virtual double milliseconds() = 0;  // on the GPU, from mark 0 to mark 1; waits
  virtual void copy(uint8_t* to, const uint8_t* from, size_t bytes) = 0;
  virtual uint64_t free_bytes() = 0;
};

// nullptr: `problem` says why.
std::unique_ptr<Gpu> open_gpu(uint32_t index, std::string* problem);

}  // namespace kvferry::cuda
