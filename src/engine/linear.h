// One linear of a graph: y = x · weightᵀ + bias on weights that stay in the file's form.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "base/aligned.h"
#include "base/threads.h"
#include "engine/act_rounding.h"
#include "model/model.h"

namespace tsubu {

// All rows of a small tensor (a norm, a bias) as floats.
std::vector<float> read_vector(const ModelTensor& tensor);

// f(first, n, worker) for tiles of the rows of a linear, on all threads when the product is worth it. At most
// max_tile_rows(n_cols, n_rows) rows a tile.
void each_row_tile(size_t n_rows, size_t n_cols, size_t n_tokens, ThreadPool& pool,
                   const std::function<void(size_t first, size_t n, int worker)>& f);
size_t max_tile_rows(size_t n_cols, size_t n_rows);

// The inputs of a linear rounded to bfloat16, for products_bf16: (n_tokens, pairs of columns), padded with zeros.
class Bf16Inputs {
 public:
  void assign(const float* x, size_t n_tokens, size_t n_cols, ThreadPool& pool);
  const uint32_t* data() const { return pairs_.data(); }
  size_t n_tokens() const { return n_tokens_; }
  size_t ld() const { return ld_; }
  uint64_t size_bytes() const { return pairs_.size() * sizeof(uint32_t); }

 private:
  AlignedVector<uint32_t> pairs_;
  size_t n_tokens_ = 0, ld_ = 0;
};

// One worker's weights on their way to bfloat16 panels.
struct Bf16Scratch {
  AlignedVector<float> rows;
  AlignedVector<uint32_t> pairs, panels;
  uint64_t size_bytes() const { return rows.size() * sizeof(float) + (pairs.size() + panels.size()) * sizeof(uint32_t); }
};

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
  void run(const float* x, float* y, size_t n_tokens, std::span<AlignedVector<float>> scratch, ThreadPool& pool) const;
  // The same with weights and inputs rounded to bfloat16, sums in f32. Needs runs_bf16(): rows a multiple of sixteen.
  bool runs_bf16() const;
  void run_bf16(const Bf16Inputs& x, float* y, std::span<Bf16Scratch> scratch, ThreadPool& pool) const;
  size_t size_bytes() const { return bias_.size() * sizeof(float); }
  const ModelTensor& weight() const { return *weight_; }
  // Rows [first, first + n) as floats: in place when they are f32, else decoded into `tile`.
  const float* rows(size_t first, size_t n, float* tile) const;
  // y is (n_tokens, n_rows); adds the bias of rows [first, first + n).
  void add_bias(float* y, size_t n_tokens, size_t first, size_t n) const;

 private:
  const ModelTensor* weight_;
  std::vector<float> bias_;
  std::span<const std::byte> raw_;  // empty: rows come through ModelTensor::read_rows
  const float* floats_ = nullptr;   // the weights themselves when they are f32 in memory
  size_t n_rows_, n_cols_, row_bytes_ = 0;
  ActRounding rounding_;
};

}  // namespace tsubu
