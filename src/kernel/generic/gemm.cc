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

// Long rows are taken in pieces of kDepth columns, so that a tile's tokens stay in the first cache while kBlockRows rows of
// w, which stay in the second, pass by. The sums of a block of tokens wait in memory from piece to piece, lane by lane:
// the same chains as in one go. The tokens of a tile are copied next to each other first, since rows a large power of two
// apart would throw each other out of the first cache.
constexpr size_t kDepth = 1024, kBlockRows = 64, kBlockTokens = 8 * kTileTokens;
static_assert(kDepth % kStep == 0 && kBlockRows % kTileRows == 0);

// A piece of a product: w and x from column `first` on, n columns of them, sums kept at `acc` from piece to piece.
struct Piece {
  const float* w;  // the block's first row
  const float* x;  // kTileTokens copied rows of kDepth
  size_t ldw, n;
  bool is_first, is_last;
};

template <int rows>
TSUBU_INLINE void piece_tile(const Piece& p, size_t row, float* sums, float* c, size_t ldc) {
  const float* w = p.w + row * p.ldw;
  F acc[kTileTokens][rows];
#pragma GCC unroll 8
  for (int t = 0; t < kTileTokens; ++t)
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r)
      acc[t][r] = p.is_first ? Lanes::zero() : Lanes::load(sums + static_cast<size_t>(t * rows + r) * kStep);
  const size_t whole = p.n / kStep * kStep;
  const float* x = p.x;
  for (size_t k = 0; k < whole; k += kStep, x += kTileTokens * kStep) {
    F wv[rows];
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) wv[r] = Lanes::load(w + static_cast<size_t>(r) * p.ldw + k);
#pragma GCC unroll 8
    for (int t = 0; t < kTileTokens; ++t) {
      const F xv = Lanes::load(x + static_cast<size_t>(t) * kStep);
#pragma GCC unroll 8
      for (int r = 0; r < rows; ++r) acc[t][r] = Lanes::fma(wv[r], xv, acc[t][r]);
    }
  }
  if (whole < p.n) {
    F wv[rows];
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) wv[r] = load_part(w + static_cast<size_t>(r) * p.ldw + whole, p.n - whole, 0.0f);
#pragma GCC unroll 8
    for (int t = 0; t < kTileTokens; ++t) {
      const F xv = Lanes::load(x + static_cast<size_t>(t) * kStep);
#pragma GCC unroll 8
      for (int r = 0; r < rows; ++r) acc[t][r] = Lanes::fma(wv[r], xv, acc[t][r]);
    }
  }
  if (p.is_last) {
#pragma GCC unroll 8
    for (int t = 0; t < kTileTokens; ++t) store_sums<rows>(c + static_cast<size_t>(t) * ldc + row, acc[t]);
    return;
  }
#pragma GCC unroll 8
  for (int t = 0; t < kTileTokens; ++t)
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) Lanes::store(sums + static_cast<size_t>(t * rows + r) * kStep, acc[t][r]);
}

// Rows next to rows, sixteen columns of each token after another; the last step padded with zeros.
TSUBU_INLINE void copy_tokens(const float* x, size_t ldx, size_t n, float* to) {
  size_t k = 0;
  for (; k + kStep <= n; k += kStep)
    for (size_t t = 0; t < static_cast<size_t>(kTileTokens); ++t, to += kStep)
      Lanes::store(to, Lanes::load(x + t * ldx + k));
  if (k == n) return;
  for (size_t t = 0; t < static_cast<size_t>(kTileTokens); ++t, to += kStep)
    Lanes::store(to, load_part(x + t * ldx + k, n - k, 0.0f));
}

// At most kBlockRows rows, n_tokens a multiple of kTileTokens and at most kBlockTokens.
void block(const Matrices& m, size_t n_rows, size_t n_tokens) {
  alignas(64) float copy[kTileTokens * kDepth];
  alignas(64) float sums[kBlockTokens * kBlockRows * kStep];
  for (size_t k = 0; k < m.n_cols; k += kDepth) {
    const size_t n = m.n_cols - k < kDepth ? m.n_cols - k : kDepth;
    const Piece piece = {m.w + k, copy, m.ldw, n, k == 0, k + n == m.n_cols};
    for (size_t t = 0; t < n_tokens; t += kTileTokens) {
      copy_tokens(m.x + t * m.ldx + k, m.ldx, n, copy);
      float* kept = sums + t * kBlockRows * kStep;
      float* c = m.c + t * m.ldc;
      size_t r = 0;
      for (; r + kTileRows <= n_rows; r += kTileRows, kept += kTileTokens * kTileRows * kStep)
        piece_tile<kTileRows>(piece, r, kept, c, m.ldc);
      for (; r < n_rows; ++r, kept += kTileTokens * kStep) piece_tile<1>(piece, r, kept, c, m.ldc);
    }
  }
}

void gemm_nt(const float* w, size_t ldw, const float* x, size_t ldx, float* c, size_t ldc, size_t n_rows,
             size_t n_tokens, size_t n_cols) {
  size_t blocked = 0;
  if (n_rows >= 2 * kTileRows && n_cols >= kStep) blocked = n_tokens / kTileTokens * kTileTokens;
  for (size_t t = 0; t < blocked; t += kBlockTokens)
    for (size_t r = 0; r < n_rows; r += kBlockRows)
      block({w + r * ldw, x + t * ldx, c + t * ldc + r, ldw, ldx, ldc, n_cols},
            n_rows - r < kBlockRows ? n_rows - r : kBlockRows, blocked - t < kBlockTokens ? blocked - t : kBlockTokens);
  const Matrices m = {w, x, c, ldw, ldx, ldc, n_cols};
  size_t t = blocked;
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
