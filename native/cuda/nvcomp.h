// NVIDIA's library of coders (ANS, Bitcomp), where a host has it. So far it is found and named, and no codec uses it.
#pragma once
#include <string>

namespace kvferry::cuda {

struct NvcompInfo {
  std::string version;
  std::string problem;  // "" if it is there
};
// Looked for once.
const NvcompInfo& nvcomp_info();

}  // namespace kvferry::cuda
