// Part of kernels_*.cpp: the KLT's matrix product. Some rows of one panel stay in registers; each of their sums takes k in order, with fma.

#if defined(KVFERRY_ROWS)

#define KVFERRY_LANES_OF_PANEL (kPanel / KVFERRY_LANES)

// `kRows` rows of a panel, k from 0 to block. Writes `columns` of each.
template <size_t kRows>
KVFERRY_INLINE void product_tile(const float* rows, size_t stride, const float* panel, size_t block, float* to, size_t columns) {
  KVFERRY_VECTOR sums[kRows][KVFERRY_LANES_OF_PANEL];
#pragma GCC unroll 16
  for (size_t row = 0; row < kRows; row++) {
#pragma GCC unroll 16
    for (size_t part = 0; part < KVFERRY_LANES_OF_PANEL; part++) sums[row][part] = KVFERRY_ZERO();
  }
  for (size_t k = 0; k < block; k++) {
    KVFERRY_VECTOR of_panel[KVFERRY_LANES_OF_PANEL];
#pragma GCC unroll 16
    for (size_t part = 0; part < KVFERRY_LANES_OF_PANEL; part++) of_panel[part] = KVFERRY_LOAD(panel + k * kPanel + part * KVFERRY_LANES);
#pragma GCC unroll 16
    for (size_t row = 0; row < kRows; row++) {
      const KVFERRY_VECTOR value = KVFERRY_FILL(rows[row * stride + k]);
#pragma GCC unroll 16
      for (size_t part = 0; part < KVFERRY_LANES_OF_PANEL; part++) sums[row][part] = KVFERRY_FMA(value, of_panel[part], sums[row][part]);
    }
  }
#pragma GCC unroll 16
  for (size_t row = 0; row < kRows; row++) {
    float whole[kPanel];
#pragma GCC unroll 16
    for (size_t part = 0; part < KVFERRY_LANES_OF_PANEL; part++) KVFERRY_STORE(whole + part * KVFERRY_LANES, sums[row][part]);
    __builtin_memcpy(to + row * stride, whole, columns * sizeof(float));
  }
}

void product(const float* rows, size_t count, size_t stride, const float* panels, size_t block, float* to) {
  for (size_t first = 0; first < block; first += kPanel, panels += block * kPanel) {
    const size_t columns = block - first < kPanel ? block - first : kPanel;
    size_t row = 0;
    for (; row + KVFERRY_ROWS <= count; row += KVFERRY_ROWS) {
      product_tile<KVFERRY_ROWS>(rows + row * stride, stride, panels, block, to + row * stride + first, columns);
    }
    for (; row < count; row++) product_tile<1>(rows + row * stride, stride, panels, block, to + row * stride + first, columns);
  }
}

#else

void product(const float* rows, size_t count, size_t stride, const float* panels, size_t block, float* to) {
  for (size_t first = 0; first < block; first += kPanel, panels += block * kPanel) {
    const size_t columns = block - first < kPanel ? block - first : kPanel;
    for (size_t row = 0; row < count; row++) {
      float sums[kPanel] = {};
      for (size_t k = 0; k < block; k++) {
        for (size_t column = 0; column < kPanel; column++) {
          sums[column] = __builtin_fmaf(rows[row * stride + k], panels[k * kPanel + column], sums[column]);
        }
      }
      for (size_t column = 0; column < columns; column++) to[row * stride + first + column] = sums[column];
    }
  }
}

#endif
