// The loops as a CPU with AVX2 runs them.
#include "kernels.h"

#if defined(__x86_64__)
#if defined(__GNUC__) && !defined(__clang__)
// gcc 12's own header reads a deliberately undefined register (gcc bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

// Headers come before: what they define in line must not be compiled for this instruction set alone.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

// What the matrix product is made of; KVFERRY_ROWS rows of one panel are in registers.
#define KVFERRY_LANES 8
#define KVFERRY_ROWS 3
#define KVFERRY_VECTOR __m256
#define KVFERRY_ZERO _mm256_setzero_ps
#define KVFERRY_LOAD _mm256_loadu_ps
#define KVFERRY_STORE _mm256_storeu_ps
#define KVFERRY_FILL _mm256_set1_ps
#define KVFERRY_FMA _mm256_fmadd_ps

namespace kvferry::codec {
namespace {
#include "row_loops.h"
#include "code_loops.h"
#include "product_loops.h"
#include "kernel_table.h"
}  // namespace

const Kernels& kernels_avx2() { return kTable; }

}  // namespace kvferry::codec

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
