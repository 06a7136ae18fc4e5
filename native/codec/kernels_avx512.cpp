// The loops as a CPU with AVX512 runs them.
#include "kernels.h"

#if defined(__x86_64__)
#if defined(__GNUC__) && !defined(__clang__)
// gcc 12's own header reads a deliberately undefined register (gcc bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

// Headers come before: what they define in line must not be compiled for this instruction set alone.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")
#endif

// What the matrix product is made of; KVFERRY_ROWS rows of one panel are in registers.
#define KVFERRY_LANES 16
#define KVFERRY_ROWS 8
#define KVFERRY_VECTOR __m512
#define KVFERRY_ZERO _mm512_setzero_ps
#define KVFERRY_LOAD _mm512_loadu_ps
#define KVFERRY_STORE _mm512_storeu_ps
#define KVFERRY_FILL _mm512_set1_ps
#define KVFERRY_FMA _mm512_fmadd_ps

namespace kvferry::codec {
namespace {
#include "row_loops.h"
#include "code_loops.h"
#include "product_loops.h"
#include "kernel_table.h"
}  // namespace

const Kernels& kernels_avx512() { return kTable; }

}  // namespace kvferry::codec

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
