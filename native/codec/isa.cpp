#include "isa.h"

#include <cstring>

namespace kvferry::codec {
namespace {

constexpr const char* kNames[] = {"scalar", "avx2", "avx512", "neon"};

bool has(Isa isa) {
#if defined(__x86_64__)
  static const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c") &&
                           __builtin_cpu_supports("bmi2");
  static const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                             __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2");
  if (isa == Isa::avx2) return avx2;
  if (isa == Isa::avx512) return avx512;
#elif defined(__aarch64__)
  if (isa == Isa::neon) return true;
#endif
  return isa == Isa::scalar;
}

}  // namespace

Isa best_isa() {
  static const Isa best = isas().front();
  return best;
}

const char* isa_name(Isa isa) { return kNames[size_t(isa)]; }

std::vector<Isa> isas() {
  std::vector<Isa> found;
  for (const Isa isa : {Isa::avx512, Isa::avx2, Isa::neon, Isa::scalar}) {
    if (has(isa)) found.push_back(isa);
  }
  return found;
}

bool isa_by_name(const char* name, Isa* isa) {
  for (const Isa one : isas()) {
    if (strcmp(isa_name(one), name) != 0) continue;
    *isa = one;
    return true;
  }
  return false;
}

}  // namespace kvferry::codec
