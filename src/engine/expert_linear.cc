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

namespace {

double sigmoid(float x) { return 1 / (1 + std::exp(-static_cast<double>(x))); }

// What experts are chosen by: of softmaxes over all the raw scores, which have their order, unless a bias or groups need
// the shares themselves.
std::vector<double> choosing_scores(const Op& op, const std::vector<float>& bias, const float* scores) {
  const RouteSpec& spec = op.route;
  std::vector<double> by(scores, scores + op.n_experts);
  const bool is_sigmoid = spec.weights == RouteWeights::kSigmoid || spec.weights == RouteWeights::kSigmoidChosen;
  if (is_sigmoid) {
    for (size_t e = 0; e < op.n_experts; ++e) by[e] = sigmoid(scores[e]);
  } else if (spec.n_groups > 1 || !bias.empty()) {
    const double most = *std::max_element(by.begin(), by.end());
    double sum = 0;
    for (double& v : by) sum += v = std::exp(v - most);
    for (double& v : by) v /= sum;
  }
  for (size_t e = 0; e < bias.size(); ++e) by[e] += static_cast<double>(bias[e]);
  // NaN compares as lowest, so that the order stays one.
  for (double& v : by)
    if (std::isnan(v)) v = -INFINITY;
  return by;
}

// The n highest, the earlier of equal ones.
std::vector<uint32_t> highest(const std::vector<double>& by, const std::vector<uint32_t>& of, size_t n) {
  std::vector<uint32_t> order = of;
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(n), order.end(),
                    [&](uint32_t a, uint32_t b) { return by[a] != by[b] ? by[a] > by[b] : a < b; });
  order.resize(n);
  return order;
}

std::vector<uint32_t> numbers(size_t n) {
  std::vector<uint32_t> all(n);
  std::iota(all.begin(), all.end(), 0u);
  return all;
}

// Experts of the best groups.
std::vector<uint32_t> candidates(const Op& op, const std::vector<double>& by) {
  const RouteSpec& spec = op.route;
  if (spec.n_groups <= 1 || spec.n_groups_used >= spec.n_groups) return numbers(op.n_experts);
  const size_t size = op.n_experts / spec.n_groups;
  std::vector<double> group_scores;
  for (size_t g = 0; g < spec.n_groups; ++g) {
    std::vector<uint32_t> members = numbers(size);
    for (uint32_t& e : members) e += static_cast<uint32_t>(g * size);
    double sum = 0;
    for (uint32_t e : highest(by, members, std::min<size_t>(spec.group_top, size))) sum += by[e];
    group_scores.push_back(sum);
  }
  std::vector<uint32_t> experts;
  for (uint32_t g : highest(group_scores, numbers(spec.n_groups), spec.n_groups_used))
    for (size_t e = 0; e < size; ++e) experts.push_back(static_cast<uint32_t>(g * size + e));
  return experts;
}

}  // namespace

void route_token(const Op& op, const std::vector<float>& bias, const float* scores, float* out) {
  const size_t n_experts = op.n_experts, n_chosen = op.n_chosen, n_used = op.n_used;
  const std::vector<double> by = choosing_scores(op, bias, scores);
  std::vector<uint32_t> order = highest(by, candidates(op, by), n_chosen);
  const RouteWeights kind = op.route.weights;
  const bool is_sigmoid = kind == RouteWeights::kSigmoid || kind == RouteWeights::kSigmoidChosen;
  double most = -INFINITY;  // past NaN
  for (size_t e = 0; e < n_experts; ++e) most = std::max(most, static_cast<double>(scores[e]));
  std::sort(order.begin(), order.end());
  const auto share = [&](size_t e) {
    return is_sigmoid ? sigmoid(scores[e]) : std::exp(static_cast<double>(scores[e]) - most);
  };
  double sum = kind == RouteWeights::kSigmoid ? 1 : 0;
  if (kind == RouteWeights::kSoftmaxAll) {
    for (size_t e = 0; e < n_experts; ++e) sum += share(e);
  } else if (kind != RouteWeights::kSigmoid) {
    for (uint32_t e : order) sum += share(e);
  }
  const bool all = n_used == n_experts && n_chosen < n_experts;
  for (size_t s = 0; s < n_used; ++s) {
    out[s] = static_cast<float>(all ? s : order[s]);
    out[n_used + s] = all ? 0.0f : static_cast<float>(share(order[s]) / sum);
  }
  if (!all) return;
  for (uint32_t e : order) out[n_used + e] = static_cast<float>(share(e) / sum);
}

ExpertLinear::ExpertLinear(const ModelTensor& weight, const ModelTensor* bias) {
  for (uint64_t i = 0; i < weight.n_matrices(); ++i) matrices_.push_back(weight.matrix(i));
  for (const ModelTensor& matrix : matrices_) linears_.emplace_back(matrix, nullptr);
  if (bias) bias_ = read_vector(*bias);
}

}  // namespace tsubu
