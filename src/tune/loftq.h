// An adapter's start from what rounding did to the base (LoftQ, one iteration): s · B A is the best rank-r approximation of
// W_float - W_base in the Frobenius norm, from a randomized subspace iteration; A and B share the singular values evenly.
// Same bits for any number of threads.
// Sources: Li et al. 2310.08659 (LoftQ); Halko, Martinsson, Tropp 0909.4061 (algorithm 4.4).
#pragma once

#include <cstdint>

#include "base/threads.h"
#include "model/adapter.h"

namespace tsubu {

// Replaces A and B of every tensor of the adapter. Throws Error(kBadInput) when the models differ in shape.
void start_from_error(const Model& base, const Model& float_model, Adapter& adapter, uint64_t seed, ThreadPool& pool);

// What it needs for a matrix, bytes.
uint64_t loftq_bytes(uint64_t n_rows, uint64_t n_cols, uint64_t rank);

// Best rank-`rank` approximation of m (n_rows, n_cols), m ≈ left (n_rows, rank) · right (rank, n_cols), each with the roots of
// the singular values.
struct LowRankFactors {
  std::vector<float> left, right;
};
LowRankFactors low_rank_factors(const std::vector<float>& m, size_t n_rows, size_t n_cols, size_t rank, uint64_t seed, ThreadPool& pool);

}  // namespace tsubu
