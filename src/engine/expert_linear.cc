#include "engine/expert_linear.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tsubu {

std::vector<std::vector<ExpertSlot>> slots_by_expert(const float* route, size_t n_tokens, size_t n_used,
                                                     size_t n_experts) {
  std::vector<std::vector<ExpertSlot>> slots(n_experts);
  for (uint32_t t = 0; t < n_tokens; ++t)
    for (uint32_t s = 0; s < n_used; ++s) slots[static_cast<size_t>(route[t * 2 * n_used + s])].push_back({t, s});
  return slots;
}

void route_token(const float* scores, size_t n_experts, size_t n_chosen, size_t n_used, bool softmax_chosen, float* out) {
  // NaN scores compare as lowest, so that the order stays one.
  const auto score = [&](size_t e) { return std::isnan(scores[e]) ? -INFINITY : scores[e]; };
  std::vector<uint32_t> order(n_experts);
  std::iota(order.begin(), order.end(), 0u);
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(n_chosen), order.end(),
                    [&](uint32_t a, uint32_t b) { return score(a) != score(b) ? score(a) > score(b) : a < b; });
  const auto most = static_cast<double>(scores[order[0]]);
  order.resize(n_chosen);
  std::sort(order.begin(), order.end());
  const auto exponential = [&](size_t e) { return std::exp(static_cast<double>(scores[e]) - most); };
  double sum = 0;
  if (softmax_chosen) {
    for (uint32_t e : order) sum += exponential(e);
  } else {
    for (size_t e = 0; e < n_experts; ++e) sum += exponential(e);
  }
  const bool all = n_used == n_experts && n_chosen < n_experts;
  for (size_t s = 0; s < n_used; ++s) {
    out[s] = static_cast<float>(all ? s : order[s]);
    out[n_used + s] = all ? 0.0f : static_cast<float>(exponential(order[s]) / sum);
  }
  if (!all) return;
  for (uint32_t e : order) out[n_used + e] = static_cast<float>(exponential(e) / sum);
}

ExpertLinear::ExpertLinear(const ModelTensor& weight, const ModelTensor* bias) {
  for (uint64_t i = 0; i < weight.n_matrices(); ++i) matrices_.push_back(weight.matrix(i));
  for (const ModelTensor& matrix : matrices_) linears_.emplace_back(matrix, nullptr);
  if (bias) bias_ = read_vector(*bias);
}

}  // namespace tsubu
