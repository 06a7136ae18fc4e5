// Where kernels run: a GPU through its driver (driver.h), or the emulator. One thread at a time. Work is in order, and what fails once fails from then on.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "grid.h"

namespace kvferry::cuda {

enum class Kernel : uint32_t;

class Device {
 public:
  virtual ~Device() = default;
  // At a multiple of 256; nullptr: there is no such memory.
  virtual uint8_t* allocate(size_t bytes) = 0;
  virtual void release(uint8_t* memory) = 0;
  // From and to host memory, which is the caller's again when they return.
  virtual void upload(uint8_t* to, const void* from, size_t bytes) = 0;
  virtual void download(void* to, const uint8_t* from, size_t bytes) = 0;
  // `arguments` are the kernel's, and copied.
  virtual void launch(Kernel kernel, const Grid& grid, const void* arguments) = 0;
  // Calls another library, which launches on this stream, in the device's context; not after something failed.
  virtual void with_stream(const std::function<void(void* stream)>& body) = 0;
  // A codec marks where what it launches begins (0) and ends (1): for measurements.
  virtual void mark(uint32_t) {}
  // Waits for all that was launched. "" or what failed first.
  virtual std::string wait() = 0;
};

std::unique_ptr<Device> make_emulator(bool is_reversed);

// Memory of a device that ends with its owner.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  DeviceMemory(Device& device, size_t bytes) : device_(&device), memory_(bytes == 0 ? nullptr : device.allocate(bytes)), bytes_(bytes) {}
  DeviceMemory(DeviceMemory&& other) noexcept { swap(other); }
  DeviceMemory& operator=(DeviceMemory&& other) noexcept {
    swap(other);
    return *this;
  }
  ~DeviceMemory() {
    if (memory_ != nullptr) device_->release(memory_);
  }
  uint8_t* data() const { return memory_; }
  size_t bytes() const { return memory_ == nullptr ? 0 : bytes_; }
  template <typename Number>
  Number* as() const {
    return reinterpret_cast<Number*>(memory_);
  }

 private:
  void swap(DeviceMemory& other) {
    std::swap(device_, other.device_);
    std::swap(memory_, other.memory_);
    std::swap(bytes_, other.bytes_);
  }
  Device* device_ = nullptr;
  uint8_t* memory_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace kvferry::cuda
