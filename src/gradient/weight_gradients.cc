#include "gradient/weight_gradients.h"

#include <algorithm>

#include "kernel/kernels.h"

namespace tsubu {

AlignedVector<float>& WeightGradients::sum(const std::string& name) {
  AlignedVector<float>& sum = sums_[name];
  if (sum.empty()) sum.resize(model_.tensor(name).n_elements());
  return sum;
}

void WeightGradients::add(const Op& op, size_t index, const float* x, const float* g, size_t n_tokens, size_t n_cols,
                          size_t n_rows) {
  if (wants(op.weight)) linears_.weight(x, g, n_tokens, n_cols, n_rows, sum(op.weight).data() + index * n_rows * n_cols, pool_);
  if (op.bias.empty() || !wants(op.bias)) return;
  float* bias = sum(op.bias).data() + index * n_rows;
  for (size_t t = 0; t < n_tokens; ++t) kernels().add(bias, g + t * n_rows, bias, n_rows);
}

void WeightGradients::on_linear(const Op& op, const float* x, const float* g, size_t n_tokens, size_t n_cols,
                                size_t n_rows) {
  add(op, 0, x, g, n_tokens, n_cols, n_rows);
}

void WeightGradients::on_expert(const Op& op, size_t expert, const float* x, const float* g, size_t n_tokens, size_t n_cols,
                                size_t n_rows) {
  add(op, expert, x, g, n_tokens, n_cols, n_rows);
}

void WeightGradients::on_rows(const Op& op, std::span<const TokenId> ids, const float* g, size_t width) {
  if (!wants(op.weight)) return;
  float* table = sum(op.weight).data();
  for (size_t t = 0; t < ids.size(); ++t) {
    float* row = table + static_cast<size_t>(ids[t]) * width;
    kernels().add(row, g + t * width, row, width);
  }
}

void WeightGradients::on_vectors(const Op& op, std::span<const float> weight, std::span<const float> bias) {
  if (!weight.empty() && wants(op.weight)) kernels().add(sum(op.weight).data(), weight.data(), sum(op.weight).data(), weight.size());
  if (!bias.empty() && wants(op.bias)) kernels().add(sum(op.bias).data(), bias.data(), sum(op.bias).data(), bias.size());
}

uint64_t WeightGradients::size_bytes() const {
  uint64_t bytes = linears_.size_bytes();
  for (const auto& [name, sum] : sums_) bytes += sum.size() * sizeof(float);
  return bytes;
}

void WeightGradients::clear() {
  for (auto& [name, sum] : sums_) std::fill(sum.begin(), sum.end(), 0.0f);
}

}  // namespace tsubu
