#include "gradient/expert_gradient.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/expert_linear.h"
#include "kernel/kernels.h"

namespace tsubu {

// With p the weights and u the gradient of the weight of each expert that is chosen, else 0: of a softmax over all experts or
// over the chosen gx_e = p_e (u_e - Σ p u); of sigmoids s gx_e = s_e (1 - s_e) u_e, and divided by their sum S
// gx_e = s_e (1 - s_e) (u_e - Σ p u) / S. Experts that weigh 0 without being chosen change no sum.
void route_gradient(const Op& op, const float* scores, const float* route, const float* gy, float* gx) {
  const float *weights = route + op.n_used, *g = gy + op.n_used;
  double mean = 0;
  for (size_t s = 0; s < op.n_used; ++s) mean += static_cast<double>(weights[s]) * static_cast<double>(g[s]);
  const RouteWeights kind = op.route.weights;
  if (kind == RouteWeights::kSigmoid || kind == RouteWeights::kSigmoidChosen) {
    std::fill(gx, gx + op.n_experts, 0.0f);
    const auto sigmoid = [&](size_t s) {
      return 1 / (1 + std::exp(-static_cast<double>(scores[static_cast<size_t>(route[s])])));
    };
    double sum = 0;
    for (size_t s = 0; s < op.n_used; ++s)
      if (weights[s] != 0) sum += sigmoid(s);
    for (size_t s = 0; s < op.n_used; ++s) {
      if (weights[s] == 0) continue;
      const double own = sigmoid(s), slope = own * (1 - own), u = static_cast<double>(g[s]);
      gx[static_cast<size_t>(route[s])] =
          static_cast<float>(kind == RouteWeights::kSigmoid ? slope * u : slope * (u - mean) / sum);
    }
    return;
  }
  const bool of_chosen = kind == RouteWeights::kSoftmaxChosen;
  if (of_chosen) {
    std::fill(gx, gx + op.n_experts, 0.0f);
  } else {
    const double log_sum = kernels().log_sum_exp(scores, op.n_experts);
    for (size_t e = 0; e < op.n_experts; ++e)
      gx[e] = static_cast<float>(-std::exp(static_cast<double>(scores[e]) - log_sum) * mean);
  }
  for (size_t s = 0; s < op.n_used; ++s) {
    const double own = static_cast<double>(g[s]) - (of_chosen ? mean : 0.0);
    gx[static_cast<size_t>(route[s])] += static_cast<float>(static_cast<double>(weights[s]) * own);
  }
}

void expert_sum_gradient(const Op& op, const float* x, const float* route, const float* gy, size_t n, float* gx,
                         float* g_route) {
  for (size_t s = 0; s < op.n_used; ++s) {
    const float weight = route[op.n_used + s] * op.scale;
    for (size_t i = 0; i < n; ++i) gx[s * n + i] = weight * gy[i];
    g_route[s] = 0;
    g_route[op.n_used + s] = op.scale * kernels().dot(x + s * n, gy, n);
  }
}

void ExpertLinearGradient::run(const Op& op, const ModelTensor& weight, const float* x, const float* route,
                               const float* gy, size_t n_tokens, float* gx, const Visit& visit, ThreadPool& pool) {
  const ModelTensor first = weight.matrix(0);
  const size_t n_rows = first.n_rows(), n_cols = first.n_cols(), inputs = op.by_slots ? op.n_used : 1;
  const auto slots = slots_by_expert(route, n_tokens, op.n_used, op.n_experts);
  size_t most = 0;
  for (const auto& list : slots) most = std::max(most, list.size());
  for (auto [buffer, width] : {std::pair(&x_, n_cols), std::pair(&gx_, n_cols), std::pair(&gy_, n_rows)})
    if (buffer->size() < most * width) buffer->resize(most * width);
  std::fill(gx, gx + n_tokens * inputs * n_cols, 0.0f);
  const auto input_of = [&](const ExpertSlot& at) { return (at.token * inputs + (op.by_slots ? at.slot : 0)) * n_cols; };
  for (size_t e = 0; e < slots.size(); ++e) {
    const auto& list = slots[e];
    if (list.empty()) continue;
    for (size_t i = 0; i < list.size(); ++i) {
      std::copy_n(x + input_of(list[i]), n_cols, x_.data() + i * n_cols);
      std::copy_n(gy + (size_t{list[i].token} * op.n_used + list[i].slot) * n_rows, n_rows, gy_.data() + i * n_rows);
    }
    visit(e, x_.data(), gy_.data(), list.size());
    linears_.input(weight.matrix(e), gy_.data(), list.size(), gx_.data(), pool);
    for (size_t i = 0; i < list.size(); ++i) {
      float* to = gx + input_of(list[i]);
      kernels().add(to, gx_.data() + i * n_cols, to, n_cols);
    }
  }
}

uint64_t ExpertLinearGradient::size_bytes() const {
  return (x_.size() + gy_.size() + gx_.size()) * sizeof(float) + linears_.size_bytes();
}

}  // namespace tsubu
