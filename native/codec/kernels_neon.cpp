// The loops as arm64 runs them. It has NEON always, so that compilers make the same of them as for the oracle; the matrix product says its registers.
#include "kernels.h"

#if defined(__aarch64__)
#include <arm_neon.h>

#define KVFERRY_LANES 4
#define KVFERRY_ROWS 2
#define KVFERRY_VECTOR float32x4_t
#define KVFERRY_ZERO() vdupq_n_f32(0)
#define KVFERRY_LOAD vld1q_f32
#define KVFERRY_STORE vst1q_f32
#define KVFERRY_FILL vdupq_n_f32
#define KVFERRY_FMA(a, b, sum) vfmaq_f32(sum, a, b)

namespace kvferry::codec {
namespace {
#include "row_loops.h"
#include "code_loops.h"
#include "product_loops.h"
#include "kernel_table.h"
}  // namespace

const Kernels& kernels_neon() { return kTable; }

}  // namespace kvferry::codec
#endif
