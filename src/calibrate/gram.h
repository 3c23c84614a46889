// Sums over tokens of products of activations: G = XᵀY (X = Y: a Gram matrix), and per-column moments.
// Precision: tokens are taken in chunks of kGramChunk; a chunk's product is an f32 fma chain for each element, chunks
// are added in double. Against exact arithmetic an element is off by at most kGramChunk · 2^-24 · Σ|x_i y_j| (1.5e-5),
// typically by the square root of the chunk's length (1e-6), however many tokens there are. Chunks start anew with
// every call of add, so the bits depend on how the tokens are cut into calls, not on the number of threads nor on the
// instruction set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/aligned.h"
#include "base/threads.h"

namespace tsubu {

inline constexpr size_t kGramChunk = 256;
// Tokens of a chunk of bfloat16 products: adding a chunk to the sums takes longer than multiplying it.
inline constexpr size_t kBf16Chunk = 1024;

// How activations are multiplied. kBf16: rounded to bfloat16 first (relative 2^-9 each), f32 sums over kBf16Chunk tokens and
// of such chunks: much faster where Kernels::native_bf16, half the memory, and the sums are still those of a Gram matrix (of
// the rounded activations).
enum class Products { kF32, kBf16 };

// Columns repacked for the kernel: as large as kGramChunk tokens of the widest input. Share one among accumulators that
// are used one after another.
struct GramScratch {
  AlignedVector<float> x, y;
};

// Tokens that wait to be multiplied as bfloat16: pairs of tokens, by panels of columns and, for the left factor, by
// columns. Freed with the accumulator's clear() and finish().
struct WaitingTokens {
  AlignedVector<uint32_t> x_columns, y_panels;
  size_t n = 0;
};

class GramAccumulator {
 public:
  // X has n columns, Y has m. symmetric: Y is X (m == n), only strips of the upper triangle are computed and kept.
  GramAccumulator(size_t n, size_t m, bool symmetric, std::shared_ptr<GramScratch> scratch = nullptr,
                  Products products = Products::kF32);
  // x is (n_tokens, n), y (n_tokens, m), row-major with leading dimensions in floats; y is not read when symmetric.
  void add(const float* x, size_t ldx, const float* y, size_t ldy, size_t n_tokens, ThreadPool& pool);
  void add(const float* x, size_t ldx, size_t n_tokens, ThreadPool& pool) { add(x, ldx, x, ldx, n_tokens, pool); }
  uint64_t n_tokens() const { return n_tokens_; }
  size_t n() const { return n_; }
  size_t m() const { return m_; }
  bool symmetric() const { return symmetric_; }
  // Adds what still waits (bfloat16 products come in chunks of many tokens) and frees its memory: before anything is read.
  void flush(ThreadPool& pool);
  // n × m row-major, the triangle mirrored when symmetric; sums, not means.
  void finish(std::span<float> out) const;
  // Row i of the upper triangle: elements (i, i … m-1) when symmetric, else all m of them.
  void finish_row(size_t i, std::span<float> out) const;
  void clear();  // to zero tokens; keeps the memory

  // The sums as they are kept, to save and restore work in progress. Products::kF32 only.
  std::span<const double> sums() const { return g_; }
  void restore(std::span<const double> sums, uint64_t n_tokens);
  // Bytes of the sums of such an accumulator (kF32).
  static uint64_t size_bytes(size_t n, size_t m, bool symmetric);

 private:
  struct Strip;
  Strip strip(size_t i) const;
  double at(size_t i, size_t j) const;
  void add_bf16(const float* x, size_t ldx, const float* y, size_t ldy, size_t n_tokens, ThreadPool& pool);
  void multiply_waiting(ThreadPool& pool);
  size_t n_, m_;
  bool symmetric_;
  uint64_t n_tokens_ = 0;
  std::shared_ptr<GramScratch> scratch_;
  Products products_;
  WaitingTokens waiting_;
  std::vector<double> g_;         // strips of kStripRows rows, each row-major; see gram.cc
  std::vector<float> g_of_bf16_;  // the same, of bfloat16 products
};

// First moments, mean squares and maxima of columns.
class ColumnMoments {
 public:
  explicit ColumnMoments(size_t n_cols) : sum_(n_cols), squares_(n_cols), max_(n_cols) {}
  void add(const float* x, size_t ldx, size_t n_tokens, ThreadPool& pool);
  uint64_t n_tokens() const { return n_tokens_; }
  size_t n_cols() const { return sum_.size(); }
  std::span<const double> sum() const { return sum_; }          // Σx
  std::span<const double> squares() const { return squares_; }  // Σx²
  std::span<const float> max_abs() const { return max_; }       // max|x|
  void restore(std::span<const double> sum, std::span<const double> squares, std::span<const float> max_abs,
               uint64_t n_tokens);

 private:
  std::vector<double> sum_, squares_;
  std::vector<float> max_;
  uint64_t n_tokens_ = 0;
};

}  // namespace tsubu
