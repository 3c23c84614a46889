// Products for triangular factors and solves: doubles, independent columns in the lanes, every element one fma chain in
// the order of k, so that the bits do not depend on the instruction set.
#include "kernel/generic/vector_math.h"
#include "kernel/kernels.h"

namespace tsubu::TSUBU_ISA {

void fill_factor_kernels(Kernels& k);

namespace {

using D = Lanes::D;

// Sums that stay in registers: 24 of 32 with AVX-512; with AVX2 a value takes two of 16, with NEON four of 32.
#if defined(TSUBU_ISA_AVX512)
constexpr size_t kTileRows = 8, kTileVectors = 2;
#else
constexpr size_t kTileRows = 4, kTileVectors = 1;
#endif
constexpr size_t kTileCols = kTileVectors * kDoubles;

template <size_t rows>
TSUBU_INLINE void tile(double* c, size_t ldc, const double* a, size_t lda, const double* b, size_t ldb, size_t n_k) {
  D acc[rows][kTileVectors];
#pragma GCC unroll 8
  for (size_t i = 0; i < rows; ++i)
#pragma GCC unroll 8
    for (size_t j = 0; j < kTileVectors; ++j) acc[i][j] = Lanes::load(c + i * ldc + j * kDoubles);
  for (size_t k = 0; k < n_k; ++k) {
    D bv[kTileVectors];
#pragma GCC unroll 8
    for (size_t j = 0; j < kTileVectors; ++j) bv[j] = Lanes::load(b + k * ldb + j * kDoubles);
#pragma GCC unroll 8
    for (size_t i = 0; i < rows; ++i) {
      const D minus = Lanes::set1(-a[i * lda + k]);
#pragma GCC unroll 8
      for (size_t j = 0; j < kTileVectors; ++j) acc[i][j] = Lanes::fma(minus, bv[j], acc[i][j]);
    }
  }
#pragma GCC unroll 8
  for (size_t i = 0; i < rows; ++i)
#pragma GCC unroll 8
    for (size_t j = 0; j < kTileVectors; ++j) Lanes::store(c + i * ldc + j * kDoubles, acc[i][j]);
}

void subtract_product(double* c, size_t ldc, const double* a, size_t lda, const double* b, size_t ldb, size_t n_rows,
                      size_t n_cols, size_t n_k) {
  size_t j = 0;
  for (; j + kTileCols <= n_cols; j += kTileCols) {
    size_t i = 0;
    for (; i + kTileRows <= n_rows; i += kTileRows)
      tile<kTileRows>(c + i * ldc + j, ldc, a + i * lda, lda, b + j, ldb, n_k);
    for (; i < n_rows; ++i) tile<1>(c + i * ldc + j, ldc, a + i * lda, lda, b + j, ldb, n_k);
  }
  for (size_t i = 0; i < n_rows; ++i)
    for (size_t rest = j; rest < n_cols; ++rest) {
      double sum = c[i * ldc + rest];
      for (size_t k = 0; k < n_k; ++k) sum = __builtin_fma(-a[i * lda + k], b[k * ldb + rest], sum);
      c[i * ldc + rest] = sum;
    }
}

// Sixteen right-hand sides in the lanes, (column, row).
void solve_unit_upper(float* x, const float* m, size_t ldm, size_t n) {
  for (size_t j = 0; j < n; ++j) {
    const F minus = Lanes::neg(Lanes::load(x + 16 * j));
    const float* row = m + j * ldm;
    for (size_t k = j + 1; k < n; ++k)
      Lanes::store(x + 16 * k, Lanes::fma(minus, Lanes::set1(row[k]), Lanes::load(x + 16 * k)));
  }
}

void solve_unit_upper_transposed(float* x, const float* m, size_t ldm, size_t n) {
  for (size_t j = n; j-- > 0;) {
    const float* row = m + j * ldm;
    F sum = Lanes::load(x + 16 * j);
    for (size_t k = j + 1; k < n; ++k) sum = Lanes::fma(Lanes::neg(Lanes::load(x + 16 * k)), Lanes::set1(row[k]), sum);
    Lanes::store(x + 16 * j, sum);
  }
}

}  // namespace

void fill_factor_kernels(Kernels& k) {
  k.subtract_product = subtract_product;
  k.solve_unit_upper = solve_unit_upper;
  k.solve_unit_upper_transposed = solve_unit_upper_transposed;
}

}  // namespace tsubu::TSUBU_ISA
