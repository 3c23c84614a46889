// The linears of a mixture's experts: one for each matrix of a tensor of three dimensions, run on the tokens that were
// routed to it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/linear.h"

namespace tsubu {

// A token's slot: where the expert's input is read and its output goes.
struct ExpertSlot {
  uint32_t token, slot;
};

// The slots of each expert, tokens in order. route: (n_tokens, 2 · n_used), experts first.
std::vector<std::vector<ExpertSlot>> slots_by_expert(const float* route, size_t n_tokens, size_t n_used,
                                                     size_t n_experts);

// One token's scores of n_experts → its slots' experts in ascending order and their weights, (2 · n_used), of a kRoute. The
// n_chosen highest scores are chosen, the earlier of equal ones; with n_used = n_experts all have a slot and those not chosen
// weigh 0. bias: of the choice; may be empty.
void route_token(const Op& op, const std::vector<float>& bias, const float* scores, float* out);

class ExpertLinear {
 public:
  // bias: nullptr or (n_experts, n_rows).
  ExpertLinear(const ModelTensor& weight, const ModelTensor* bias);
  size_t n_experts() const { return linears_.size(); }
  size_t n_rows() const { return linears_.front().n_rows(); }
  size_t n_cols() const { return linears_.front().n_cols(); }
  size_t scratch_floats() const { return linears_.front().scratch_floats(); }
  const Linear& expert(size_t i) const { return linears_[i]; }
  const float* bias(size_t expert) const { return bias_.empty() ? nullptr : bias_.data() + expert * n_rows(); }
  size_t size_bytes() const { return bias_.size() * sizeof(float); }

 private:
  std::vector<ModelTensor> matrices_;
  std::vector<Linear> linears_;
  std::vector<float> bias_;
};

}  // namespace tsubu
