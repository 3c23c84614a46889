// Products for triangular factors and solves: doubles, plain loops that the compiler vectorizes over independent
// columns, every element one fma chain in the order of k, so that the bits do not depend on the instruction set.
#include "kernel/generic/vector_math.h"
#include "kernel/kernels.h"

namespace tsubu::TSUBU_ISA {

void fill_factor_kernels(Kernels& k);

namespace {

constexpr size_t kTileCols = 16;
#if defined(TSUBU_ISA_AVX512)
constexpr size_t kTileRows = 8;
#else
constexpr size_t kTileRows = 2;
#endif

template <size_t rows>
TSUBU_INLINE void tile(double* c, size_t ldc, const double* a, size_t lda, const double* b, size_t ldb, size_t n_k) {
  double acc[rows][kTileCols];
  for (size_t i = 0; i < rows; ++i)
    for (size_t j = 0; j < kTileCols; ++j) acc[i][j] = c[i * ldc + j];
  for (size_t k = 0; k < n_k; ++k)
    for (size_t i = 0; i < rows; ++i) {
      const double minus = -a[i * lda + k];
      for (size_t j = 0; j < kTileCols; ++j) acc[i][j] = __builtin_fma(minus, b[k * ldb + j], acc[i][j]);
    }
  for (size_t i = 0; i < rows; ++i)
    for (size_t j = 0; j < kTileCols; ++j) c[i * ldc + j] = acc[i][j];
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
