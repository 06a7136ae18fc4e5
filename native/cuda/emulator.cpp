// The kernels as CPUs run them: one block after another.
#include <cstdlib>
#include <cstring>
#include <memory>
#include <set>

#include "device.h"
#include "kernels.h"

namespace kvferry::cuda {
namespace {

constexpr size_t kAlignment = 256;

template <uint32_t kThreads, typename Body>
void run(const Grid& grid, bool is_reversed, Body body) {
  const size_t room = (grid.shared_bytes + kAlignment - 1) / kAlignment * kAlignment;
  uint8_t* shared = room == 0 ? nullptr : static_cast<uint8_t*>(std::aligned_alloc(kAlignment, room));
  for (uint64_t at = 0; at < uint64_t(grid.x) * grid.y; at++) {
    const uint64_t index = is_reversed ? uint64_t(grid.x) * grid.y - 1 - at : at;
    // What is in there when a block begins is anything.
    if (shared != nullptr) memset(shared, 0xA5, room);
    EmulatedBlock<kThreads> block(uint32_t(index % grid.x), uint32_t(index / grid.x), grid.x, shared, is_reversed);
    body(block);
  }
  std::free(shared);
}

class Emulator : public Device {
 public:
  explicit Emulator(bool is_reversed) : is_reversed_(is_reversed) {}

  // Of exactly that size, so that a build that watches its memory sees each byte beyond it.
  uint8_t* allocate(size_t bytes) override {
    void* memory = nullptr;
    if (posix_memalign(&memory, kAlignment, bytes) != 0) return nullptr;
    memset(memory, 0xA5, bytes);
    return static_cast<uint8_t*>(memory);
  }
  void release(uint8_t* memory) override { std::free(memory); }
  void upload(uint8_t* to, const void* from, size_t bytes) override {
    if (bytes > 0) memcpy(to, from, bytes);
  }
  void download(void* to, const uint8_t* from, size_t bytes) override {
    if (bytes > 0) memcpy(to, from, bytes);
  }
  void launch(Kernel kernel, const Grid& grid, const void* arguments) override {
    switch (kernel) {
#define KVFERRY_RUN(name, Arguments, threads)                                                                                         \
  case Kernel::name:                                                                                                                  \
    return run<threads>(grid, is_reversed_, [&](auto& block) { name(block, *static_cast<const Arguments*>(arguments)); });
      KVFERRY_KERNELS(KVFERRY_RUN)
#undef KVFERRY_RUN
      case Kernel::count: return;
    }
  }
  void with_stream(const std::function<void(void*)>& body) override { body(nullptr); }
  std::string wait() override { return ""; }

 private:
  const bool is_reversed_;
};

}  // namespace

std::unique_ptr<Device> make_emulator(bool is_reversed) { return std::make_unique<Emulator>(is_reversed); }

}  // namespace kvferry::cuda
