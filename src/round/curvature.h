// The quadratic form a matrix is rounded against: the mean Gram matrix H of its input, damped, and its factor
// H = M D Mᵀ with M unit upper triangular (columns are rounded from the first to the last: M_ij tells how far the error
// of column i moves the best value of a later column j). Source: Chee et al. 2307.13304 (LDLQ), equal to GPTQ's order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/aligned.h"
#include "base/threads.h"

namespace tsubu {

class Curvature {
 public:
  // gram: Σ x xᵀ over n_tokens, n × n. damping: added to the diagonal, as a share of its mean; raised tenfold (at most
  // four times) while the factor does not exist. Throws Error(kNumeric) when it still does not.
  Curvature(AlignedVector<float> gram, size_t n, uint64_t n_tokens, double damping, ThreadPool& pool);
  Curvature(std::span<const float> gram, size_t n, uint64_t n_tokens, double damping, ThreadPool& pool)
      : Curvature(AlignedVector<float>(gram.begin(), gram.end()), n, n_tokens, damping, pool) {}

  size_t n() const { return n_; }
  const float* h() const { return h_.data(); }  // damped, n × n
  // Unit upper triangular M; the lower triangle holds its mirror image, the diagonal ones.
  const float* m() const { return m_.data(); }
  std::span<const float> pivots() const { return pivots_; }      // D: variance of a column given the later ones
  std::span<const float> diagonal() const { return diagonal_; }  // of H
  double damping() const { return damping_; }                    // as used
  // The absolute amount on the diagonal.
  float lambda() const { return lambda_; }

  // Rows b (n_rows × n) become the solutions x of x H = b.
  void solve(float* b, size_t n_rows, ThreadPool& pool) const;

 private:
  bool factor(ThreadPool& pool);
  size_t n_;
  double damping_;
  float lambda_ = 0;
  AlignedVector<float> h_, m_;
  std::vector<float> pivots_, diagonal_;
};

}  // namespace tsubu
