// The oracle: the loops as the least CPU of an architecture runs them.
#include "kernels.h"

// 128 bits: what x86-64 and arm64 have at least.
#define KVFERRY_LANES 4

namespace kvferry::codec {
namespace {
#include "row_loops.h"
#include "code_loops.h"
#include "product_loops.h"
#include "kernel_table.h"
}  // namespace

#if defined(__x86_64__)
const Kernels& kernels_avx2();
const Kernels& kernels_avx512();
#elif defined(__aarch64__)
const Kernels& kernels_neon();
#endif

const Kernels& kernels_of(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::avx512) return kernels_avx512();
  if (isa == Isa::avx2) return kernels_avx2();
#elif defined(__aarch64__)
  if (isa == Isa::neon) return kernels_neon();
#endif
  return kTable;
}

}  // namespace kvferry::codec
