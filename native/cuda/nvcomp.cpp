#include "nvcomp.h"

#include <dlfcn.h>

#include <cstdint>

namespace kvferry::cuda {
namespace {

// Of nvcomp.h: what nvcompGetProperties fills.
struct Properties {
  uint32_t version;  // 1000 x major + 100 x minor + patch
  uint32_t cudart_version;
};

NvcompInfo look() {
  NvcompInfo info;
  void* library = nullptr;
  for (const char* name : {"libnvcomp.so.5", "libnvcomp.so.4", "libnvcomp.so"}) {
    if (library == nullptr) library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  }
  if (library == nullptr) return {"", "libnvcomp.so is not installed"};
  const auto ask = reinterpret_cast<int (*)(Properties*)>(dlsym(library, "nvcompGetProperties"));
  Properties properties = {};
  if (ask == nullptr || ask(&properties) != 0) return {"", "libnvcomp.so does not say its version"};
  const uint32_t version = properties.version;
  return {std::to_string(version / 1000) + "." + std::to_string(version / 100 % 10) + "." + std::to_string(version % 100), ""};
}

}  // namespace

const NvcompInfo& nvcomp_info() {
  static const NvcompInfo info = look();
  return info;
}

}  // namespace kvferry::cuda
