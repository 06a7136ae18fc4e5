// What a warp multiplies: f16 by f16 into sums of 32 bits, 32 rows by 64 columns, kDepth of the products at a time. A GPU does it on its tensor cores; the emulator
// takes the products of each sum in order, which differs from them in the last bits.
#pragma once
#include "../codec/values.h"
#include "grid.h"
#if defined(__CUDACC__)
#include <mma.h>
#endif

namespace kvferry::cuda {

constexpr uint32_t kPiece = 16;  // rows and columns of what is multiplied in one instruction
constexpr uint32_t kPieceRows = 2, kPieceColumns = 4;
constexpr uint32_t kDepth = 32;
// Of a factor as it lies in shared memory: no two rows begin in the same bank, and pieces begin at multiples of 32 bytes.
constexpr uint32_t kFactorStride = kDepth + 8;
constexpr uint32_t kWideStride = 128 + 8;
constexpr uint32_t kSumStride = kPiece + 4;

#if defined(__CUDACC__)

struct Sums {
  nvcuda::wmma::fragment<nvcuda::wmma::accumulator, kPiece, kPiece, kPiece, float> of[kPieceRows][kPieceColumns];
};

KVFERRY_DEVICE void clear(Sums& sums) {
#pragma unroll
  for (uint32_t m = 0; m < kPieceRows; m++) {
#pragma unroll
    for (uint32_t n = 0; n < kPieceColumns; n++) nvcuda::wmma::fill_fragment(sums.of[m][n], 0.0f);
  }
}

// `left` is rows of kFactorStride. `right` is columns of kFactorStride, or (kIsWide) rows of kWideStride.
template <bool kIsWide>
KVFERRY_DEVICE void multiply(Sums& sums, const uint16_t* left, const uint16_t* right) {
  using namespace nvcuda::wmma;
  using Layout = std::conditional_t<kIsWide, row_major, col_major>;
#pragma unroll
  for (uint32_t k = 0; k < kDepth; k += kPiece) {
    fragment<matrix_a, kPiece, kPiece, kPiece, half, row_major> rows[kPieceRows];
    fragment<matrix_b, kPiece, kPiece, kPiece, half, Layout> columns[kPieceColumns];
#pragma unroll
    for (uint32_t m = 0; m < kPieceRows; m++) {
      load_matrix_sync(rows[m], reinterpret_cast<const half*>(left + m * kPiece * kFactorStride + k), kFactorStride);
    }
#pragma unroll
    for (uint32_t n = 0; n < kPieceColumns; n++) {
      const uint16_t* at = kIsWide ? right + k * kWideStride + n * kPiece : right + n * kPiece * kFactorStride + k;
      load_matrix_sync(columns[n], reinterpret_cast<const half*>(at), kIsWide ? kWideStride : kFactorStride);
    }
#pragma unroll
    for (uint32_t m = 0; m < kPieceRows; m++) {
#pragma unroll
      for (uint32_t n = 0; n < kPieceColumns; n++) mma_sync(sums.of[m][n], rows[m], columns[n], sums.of[m][n]);
    }
  }
}

// To rows of kSumStride. Pieces are named where loops over them are unrolled, so that they stay in registers.
KVFERRY_DEVICE void store(const Sums& sums, uint32_t m, uint32_t n, float* to) {
  nvcuda::wmma::store_matrix_sync(to, sums.of[m][n], kSumStride, nvcuda::wmma::mem_row_major);
}

// 16 bytes to shared memory while threads go on; zeros where nothing `is_there`.
KVFERRY_DEVICE void copy_ahead(uint16_t* to, const uint16_t* from, bool is_there) {
  const uint32_t shared_address = uint32_t(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address), "l"(from), "r"(is_there ? 16 : 0));
}
KVFERRY_DEVICE void wait_for_copies() { asm volatile("cp.async.wait_all;\n" ::: "memory"); }

#else

struct Sums {
  float of[kPieceRows][kPieceColumns][kPiece][kPiece];
};

KVFERRY_DEVICE void clear(Sums& sums) { memset(&sums, 0, sizeof sums); }

template <bool kIsWide>
KVFERRY_DEVICE void multiply(Sums& sums, const uint16_t* left, const uint16_t* right) {
  float rows[kPieceRows * kPiece][kDepth], columns[kDepth][kPieceColumns * kPiece];
  for (uint32_t k = 0; k < kDepth; k++) {
    for (uint32_t row = 0; row < kPieceRows * kPiece; row++) rows[row][k] = codec::from_f16(left[row * kFactorStride + k]);
    for (uint32_t column = 0; column < kPieceColumns * kPiece; column++) {
      columns[k][column] = codec::from_f16(kIsWide ? right[k * kWideStride + column] : right[column * kFactorStride + k]);
    }
  }
  for (uint32_t row = 0; row < kPieceRows * kPiece; row++) {
    for (uint32_t k = 0; k < kDepth; k++) {
      for (uint32_t column = 0; column < kPieceColumns * kPiece; column++) {
        float& sum = sums.of[row / kPiece][column / kPiece][row % kPiece][column % kPiece];
        sum = sum + rows[row][k] * columns[k][column];
      }
    }
  }
}

KVFERRY_DEVICE void store(const Sums& sums, uint32_t m, uint32_t n, float* to) {
  for (uint32_t row = 0; row < kPiece; row++) memcpy(to + row * kSumStride, sums.of[m][n][row], kPiece * sizeof(float));
}

KVFERRY_DEVICE void copy_ahead(uint16_t* to, const uint16_t* from, bool is_there) {
  if (is_there) {
    put(reinterpret_cast<uint8_t*>(to), take<Words>(from));
  } else {
    memset(to, 0, sizeof(Words));
  }
}
KVFERRY_DEVICE void wait_for_copies() {}

#endif

}  // namespace kvferry::cuda
