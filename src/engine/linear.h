// One linear of a graph: y = x · weightᵀ + bias on weights that stay in the file's form.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/threads.h"
#include "engine/act_rounding.h"
#include "model/model.h"

namespace tsubu {

// All rows of a small tensor (a norm, a bias) as floats.
std::vector<float> read_vector(const ModelTensor& tensor);

class Linear {
 public:
  // bias may be nullptr.
  Linear(const ModelTensor& weight, const ModelTensor* bias);
  size_t n_rows() const { return n_rows_; }
  size_t n_cols() const { return n_cols_; }
  ActRounding rounding() const { return rounding_; }
  // Floats that one worker needs for a decoded tile.
  size_t scratch_floats() const;
  // x is (n_tokens, n_cols), y (n_tokens, n_rows). scratch: one buffer for each worker of the pool.
  void run(const float* x, float* y, size_t n_tokens, std::span<std::vector<float>> scratch, ThreadPool& pool) const;
  size_t size_bytes() const { return bias_.size() * sizeof(float); }

 private:
  // Rows [first, first + n) as floats: in place when they are f32, else decoded into `tile`.
  const float* rows(size_t first, size_t n, float* tile) const;

  const ModelTensor* weight_;
  std::vector<float> bias_;
  std::span<const std::byte> raw_;  // empty: rows come through ModelTensor::read_rows
  const float* floats_ = nullptr;   // the weights themselves when they are f32 in memory
  size_t n_rows_, n_cols_, row_bytes_ = 0;
  ActRounding rounding_;
};

}  // namespace tsubu
