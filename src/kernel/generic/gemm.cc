// Matrix products as dot products: c(n_tokens, n_rows) = x(n_tokens, n_cols) · w(n_rows, n_cols)ᵀ. An element is one
// fma chain over k in sixteen lanes (lane k % 16), the last partial step padded with zeros, then the fixed tree; tiles
// only choose which elements are computed side by side.
#include "kernel/generic/vector_math.h"
#include "kernel/kernels.h"

namespace tsubu::TSUBU_ISA {

void fill_gemm_kernels(Kernels& k);

namespace {

// Accumulators that stay in registers: 24 of 32 with AVX-512; with AVX2 a value takes two of 16, with NEON four of 32.
#if defined(TSUBU_ISA_AVX512)
constexpr int kTileRows = 4, kTileTokens = 6;
#elif defined(TSUBU_ISA_AVX2)
constexpr int kTileRows = 2, kTileTokens = 3;
#else
constexpr int kTileRows = 2, kTileTokens = 2;
#endif
constexpr int kVectorRows = 2 * kTileRows;  // rows at once for a single token: enough chains to hide fma latency

struct Matrices {
  const float* w;
  const float* x;
  float* c;
  size_t ldw, ldx, ldc, n_cols;
};

template <int n>
TSUBU_INLINE void store_sums(float* out, const F* acc) {
  int i = 0;
  for (; i + 4 <= n; i += 4) hsum4<Lanes>(out + i, acc[i], acc[i + 1], acc[i + 2], acc[i + 3]);
  for (; i < n; ++i) out[i] = Lanes::hsum(acc[i]);
}

template <int rows, int tokens>
void tile(const Matrices& m, size_t row, size_t token) {
  const float* w = m.w + row * m.ldw;
  const float* x = m.x + token * m.ldx;
  F acc[tokens][rows];
#pragma GCC unroll 8
  for (int t = 0; t < tokens; ++t)
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) acc[t][r] = Lanes::zero();
  const size_t whole = m.n_cols / kStep * kStep;
  for (size_t k = 0; k < whole; k += kStep) {
    F wv[rows];
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) wv[r] = Lanes::load(w + static_cast<size_t>(r) * m.ldw + k);
#pragma GCC unroll 8
    for (int t = 0; t < tokens; ++t) {
      const F xv = Lanes::load(x + static_cast<size_t>(t) * m.ldx + k);
#pragma GCC unroll 8
      for (int r = 0; r < rows; ++r) acc[t][r] = Lanes::fma(wv[r], xv, acc[t][r]);
    }
  }
  if (whole < m.n_cols) {
    const size_t rest = m.n_cols - whole;
    F wv[rows];
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) wv[r] = load_part(w + static_cast<size_t>(r) * m.ldw + whole, rest, 0.0f);
#pragma GCC unroll 8
    for (int t = 0; t < tokens; ++t) {
      const F xv = load_part(x + static_cast<size_t>(t) * m.ldx + whole, rest, 0.0f);
#pragma GCC unroll 8
      for (int r = 0; r < rows; ++r) acc[t][r] = Lanes::fma(wv[r], xv, acc[t][r]);
    }
  }
#pragma GCC unroll 8
  for (int t = 0; t < tokens; ++t) store_sums<rows>(m.c + (token + static_cast<size_t>(t)) * m.ldc + row, acc[t]);
}

template <int tokens>
void rows_of(const Matrices& m, size_t n_rows, size_t token) {
  constexpr int rows = tokens == 1 ? kVectorRows : kTileRows;
  size_t r = 0;
  for (; r + rows <= n_rows; r += rows) tile<rows, tokens>(m, r, token);
  for (; r < n_rows; ++r) tile<1, tokens>(m, r, token);
}

template <int tokens>
void last_tokens(const Matrices& m, size_t n_rows, size_t token, size_t n) {
  if constexpr (tokens > 0) {
    if (n == static_cast<size_t>(tokens)) return rows_of<tokens>(m, n_rows, token);
    last_tokens<tokens - 1>(m, n_rows, token, n);
  }
}

// Rows of x that are a large power of two apart fall upon the same few lines of the first cache and throw each other
// out: a tile's tokens are then copied a line apart first. Worth it when enough rows read them.
constexpr size_t kAliasBytes = 1024, kMostCopied = 8192, kWorthCopying = 16;

bool aliases(size_t ld, size_t n_rows, size_t n_cols) {
  return ld * sizeof(float) % kAliasBytes == 0 && n_rows >= kWorthCopying && n_cols >= kStep && n_cols <= kMostCopied;
}

void gemm_nt(const float* w, size_t ldw, const float* x, size_t ldx, float* c, size_t ldc, size_t n_rows,
             size_t n_tokens, size_t n_cols) {
  const Matrices m = {w, x, c, ldw, ldx, ldc, n_cols};
  size_t t = 0;
  if (aliases(ldx, n_rows, n_cols)) {
    alignas(64) float copy[kTileTokens * (kMostCopied + kStep)];
    const size_t ld = (n_cols + kStep - 1) / kStep * kStep + kStep;
    for (; t + kTileTokens <= n_tokens; t += kTileTokens) {
      for (size_t i = 0; i < static_cast<size_t>(kTileTokens); ++i)
        __builtin_memcpy(copy + i * ld, x + (t + i) * ldx, n_cols * sizeof(float));
      rows_of<kTileTokens>({w, copy, c + t * ldc, ldw, ld, ldc, n_cols}, n_rows, 0);
    }
  }
  for (; t + kTileTokens <= n_tokens; t += kTileTokens) rows_of<kTileTokens>(m, n_rows, t);
  last_tokens<kTileTokens - 1>(m, n_rows, t, n_tokens - t);
}

float dot(const float* a, const float* b, size_t n) {
  float sum;
  tile<1, 1>({a, b, &sum, n, n, 1, n}, 0, 0);
  return sum;
}

}  // namespace

void fill_gemm_kernels(Kernels& k) {
  k.gemm_nt = gemm_nt;
  k.dot = dot;
}

}  // namespace tsubu::TSUBU_ISA
