// Products of columns: sums over tokens of x_i y_j and of powers of x_i. Sixteen columns j lie in the lanes and the
// tokens come one after another, so an element is one fma chain over its tokens, whatever the tiling; the chain is
// added to a double at its end.
#include "kernel/generic/vector_math.h"
#include "kernel/kernels.h"

namespace tsubu::TSUBU_ISA {

void fill_gram_kernels(Kernels& k);

namespace {

// Accumulators that stay in registers: rows × panels values, 24 of 32 registers with AVX-512; with
// AVX2 a value takes two of 16 (8 in all: enough chains to hide the latency), with NEON four of 32.
#if defined(TSUBU_ISA_AVX512)
constexpr int kTileRows = 8, kTilePanels = 3, kMomentVectors = 4;
#else
constexpr int kTileRows = 4, kTilePanels = 1, kMomentVectors = 2;
#endif
static_assert(kLanes % kTileRows == 0);

// Adds sixteen floats to sixteen doubles.
TSUBU_INLINE void add_to(double* g, F x) {
  float values[kLanes];
  Lanes::store(values, x);
  for (int l = 0; l < kLanes; ++l) g[l] += static_cast<double>(values[l]);
}

// Rows [row, row + kTileRows) of one panel of x against `panels` panels of y.
template <int panels>
void tile(const float* x, const float* y, size_t n_tokens, double* g, size_t ldg) {
  F acc[kTileRows][panels];
#pragma GCC unroll 8
  for (int r = 0; r < kTileRows; ++r)
#pragma GCC unroll 8
    for (int p = 0; p < panels; ++p) acc[r][p] = Lanes::zero();
  for (size_t t = 0; t < n_tokens; ++t) {
    F yv[panels];
#pragma GCC unroll 8
    for (int p = 0; p < panels; ++p) yv[p] = Lanes::load(y + (static_cast<size_t>(p) * n_tokens + t) * kStep);
#pragma GCC unroll 8
    for (int r = 0; r < kTileRows; ++r) {
      const F xv = Lanes::set1(x[t * kStep + static_cast<size_t>(r)]);
#pragma GCC unroll 8
      for (int p = 0; p < panels; ++p) acc[r][p] = Lanes::fma(xv, yv[p], acc[r][p]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kTileRows; ++r)
#pragma GCC unroll 8
    for (int p = 0; p < panels; ++p)
      add_to(g + static_cast<size_t>(r) * ldg + static_cast<size_t>(p) * kStep, acc[r][p]);
}

template <int panels>
void rows_of(const float* x, size_t n_x, const float* y, size_t n_tokens, double* g, size_t ldg) {
  for (size_t i = 0; i < n_x; ++i)
    for (size_t r = 0; r < kStep; r += kTileRows)
      tile<panels>(x + i * n_tokens * kStep + r, y, n_tokens, g + (i * kStep + r) * ldg, ldg);
}

void gram(const float* x, size_t n_x, const float* y, size_t n_y, size_t n_tokens, double* g, size_t ldg) {
  size_t p = 0;
  for (; p + kTilePanels <= n_y; p += kTilePanels)
    rows_of<kTilePanels>(x, n_x, y + p * n_tokens * kStep, n_tokens, g + p * kStep, ldg);
  for (; p < n_y; ++p) rows_of<1>(x, n_x, y + p * n_tokens * kStep, n_tokens, g + p * kStep, ldg);
}

// 16 · vectors columns from x on, or the first `columns` of 16.
template <int vectors, bool whole>
TSUBU_INLINE void moments_of(const float* x, size_t ldx, size_t n_tokens, size_t columns, double* sum, double* squares,
                             float* max_abs) {
  F s[vectors], q[vectors], m[vectors];
#pragma GCC unroll 4
  for (int v = 0; v < vectors; ++v) s[v] = q[v] = m[v] = Lanes::zero();
  for (size_t t = 0; t < n_tokens; ++t) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      const float* p = x + t * ldx + static_cast<size_t>(v) * kStep;
      const F value = whole ? Lanes::load(p) : load_part(p, columns, 0.0f);
      s[v] = Lanes::add(s[v], value);
      q[v] = Lanes::fma(value, value, q[v]);
      m[v] = Lanes::max(Lanes::abs(value), m[v]);
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < vectors; ++v) {
    float values[3][kLanes];
    Lanes::store(values[0], s[v]);
    Lanes::store(values[1], q[v]);
    Lanes::store(values[2], m[v]);
    const size_t at = static_cast<size_t>(v) * kStep, n = whole ? kStep : columns;
    for (size_t c = 0; c < n; ++c) {
      sum[at + c] += static_cast<double>(values[0][c]);
      squares[at + c] += static_cast<double>(values[1][c]);
      max_abs[at + c] = max_abs[at + c] < values[2][c] ? values[2][c] : max_abs[at + c];
    }
  }
}

void column_moments(const float* x, size_t ldx, size_t n_tokens, size_t n_cols, double* sum, double* squares,
                    float* max_abs) {
  size_t c = 0;
  for (; c + kMomentVectors * kStep <= n_cols; c += kMomentVectors * kStep)
    moments_of<kMomentVectors, true>(x + c, ldx, n_tokens, 0, sum + c, squares + c, max_abs + c);
  for (; c + kStep <= n_cols; c += kStep)
    moments_of<1, true>(x + c, ldx, n_tokens, 0, sum + c, squares + c, max_abs + c);
  if (c < n_cols) moments_of<1, false>(x + c, ldx, n_tokens, n_cols - c, sum + c, squares + c, max_abs + c);
}

}  // namespace

void fill_gram_kernels(Kernels& k) {
  k.gram = gram;
  k.column_moments = column_moments;
}

}  // namespace tsubu::TSUBU_ISA
