// Sums the gradients of a model's weights over windows, in f32, under the weights' names: matrices, tables, norms, biases.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "gradient/backward.h"

namespace tsubu {

class WeightGradients : public GradientSink {
 public:
  WeightGradients(const Model& model, ThreadPool& pool, bool bf16_products = false)
      : model_(model), pool_(pool), linears_(bf16_products) {}
  void on_linear(const Op& op, const float* x, const float* g, size_t n_tokens, size_t n_cols, size_t n_rows) override;
  bool wants_vectors() const override { return true; }
  void on_rows(const Op& op, std::span<const TokenId> ids, const float* g, size_t width) override;
  void on_vectors(const Op& op, std::span<const float> weight, std::span<const float> bias) override;
  void on_expert(const Op& op, size_t expert, const float* x, const float* g, size_t n_tokens, size_t n_cols,
                 size_t n_rows) override;

  uint64_t size_bytes() const;  // of the sums and of the products' scratch
  // In the tensor's shape; a weight that is used twice (a tied head) has the sum.
  const std::map<std::string, AlignedVector<float>>& all() const { return sums_; }
  void clear();  // to zeros

 protected:
  // Whether the gradient of this weight or bias is summed.
  virtual bool wants(const std::string& /*name*/) const { return true; }

 private:
  AlignedVector<float>& sum(const std::string& name);
  // Of matrix `index` of a stack of them, and of its row of a bias for each.
  void add(const Op& op, size_t index, const float* x, const float* g, size_t n_tokens, size_t n_cols, size_t n_rows);
  const Model& model_;
  ThreadPool& pool_;
  LinearGradient linears_;
  std::map<std::string, AlignedVector<float>> sums_;
};

}  // namespace tsubu
