// A Gram matrix of few tokens, shrunk toward one that is known better: (1 - ρ) S + ρ T, with the ρ that leaves the least
// expected squared error. With the tokens z of weights a (by column), ⟨A, B⟩ = Σ a_i a_j A_ij B_ij and S the mean of z zᵀ,
//   ρ = Var(S) / ‖S - T‖²,   Var(S) = (Σ ‖z zᵀ‖² - n ‖S‖²) / (n (n - 1)), less the covariance of S and T
// so that it takes one number more than S: Σ over tokens of ‖z zᵀ‖² = (Σ a_i z_i²)². Tokens count as independent.
// Sources: Ledoit & Wolf 2004, J. Multivariate Analysis 88 (the estimator); Schäfer & Strimmer 2005, Stat. Appl. Genet. Mol.
// Biol. 4 (the diagonal as target; the covariance term); Friedman 1989, JASA 84 (a class's matrix toward the pooled one).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/threads.h"

namespace tsubu {

// Sums over the tokens that a Gram matrix is made of.
struct TokenSpread {
  uint64_t n_tokens = 0;
  double whole = 0;     // (Σ a_i z_i²)²
  double diagonal = 0;  // Σ a_i² z_i⁴
  // x: one token's values, n of them.
  void add(const float* x, std::span<const float> metric);
};

// metric: a, one for each column, not negative (0 leaves a column out); usually one over the columns' mean squares, so that
// they all weigh the same. gram: n × n, symmetric, the mean over spread.n_tokens tokens; becomes the shrunk matrix. Returns
// ρ in [0, 1]; 1 where fewer than two tokens tell nothing of the variance.

// Toward the pooled matrix (n × n, a mean as well), brought to the size of gram, which has its variances' mean. own_share:
// share of the pool's tokens that are gram's.
double shrink_to_pool(std::span<float> gram, const TokenSpread& spread, std::span<const float> metric,
                      std::span<const float> pooled, double own_share, ThreadPool& pool);

// Toward its own diagonal: the diagonal stays.
double shrink_to_diagonal(std::span<float> gram, const TokenSpread& spread, std::span<const float> metric, ThreadPool& pool);

}  // namespace tsubu
