// A low-rank addition to a matrix: W + scale · B A, with A (rank, n_cols) and B (n_rows, rank), rows in GGUF's order. f32;
// a row is W's, then the addition of rank multiples of A's rows in their order, two roundings each: the same bits whichever
// rows are read together.
// Source: Hu et al. 2106.09685 (LoRA).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tsubu {

struct LowRank {
  size_t n_rows = 0, n_cols = 0, rank = 0;
  float scale = 1;       // alpha / rank
  std::vector<float> a;  // (rank, n_cols); of an adapter for a stack of matrices: model/adapter.h
  std::vector<float> b;  // (n_rows, rank)

  // out (n, n_cols) += rows [first, first + n) of scale · B A.
  void add_rows(uint64_t first, uint64_t n, float* out) const;
  uint64_t size_bytes() const { return (a.size() + b.size()) * sizeof(float); }
};

}  // namespace tsubu
