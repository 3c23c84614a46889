// Gradients of a mixture of experts: the router's weights, the sum by slots, the experts' linears. Which experts are
// chosen is a constant. Layout of a route and of values by slots: engine/expert_linear.h.
#pragma once

#include <cstddef>
#include <functional>

#include "base/aligned.h"
#include "base/threads.h"
#include "gradient/linear_gradient.h"
#include "model/graph.h"

namespace tsubu {

// One token. scores: (n_experts); route: as route_token made it of them; gy: of the route, (2 · n_used), of which the second
// half counts; gx: (n_experts).
void route_gradient(const Op& op, const float* scores, const float* route, const float* gy, float* gx);

// One token, y = scale · Σ weight_s x_s: gx (n_used, n) from gy (n), and the weights' gradient into g_route (2 · n_used), its
// first half zeros.
void expert_sum_gradient(const Op& op, const float* x, const float* route, const float* gy, size_t n, float* gx,
                         float* g_route);

class ExpertLinearGradient {
 public:
  // An expert's tokens, gathered: x (n_tokens, n_cols) and g (n_tokens, n_rows), the gradient of what it gives.
  using Visit = std::function<void(size_t expert, const float* x, const float* g, size_t n_tokens)>;
  // x: (n_tokens, n_used, n_cols) by slots, else (n_tokens, n_cols); gy: (n_tokens, n_used, n_rows); gx as x.
  void run(const Op& op, const ModelTensor& weight, const float* x, const float* route, const float* gy, size_t n_tokens,
           float* gx, const Visit& visit, ThreadPool& pool);
  uint64_t size_bytes() const;

 private:
  AlignedVector<float> x_, gy_, gx_;
  LinearGradient linears_;
};

}  // namespace tsubu
