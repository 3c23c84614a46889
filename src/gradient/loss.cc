#include "gradient/loss.h"

#include <algorithm>
#include <cmath>

#include "base/draws.h"
#include "kernel/kernels.h"

namespace tsubu {
namespace {

double sum_of(const std::vector<double>& values) {
  double sum = 0;
  for (double v : values) sum += v;
  return sum;
}

}  // namespace

double cross_entropy(std::span<const TokenId> targets, float scale, float* logits, size_t n_vocab, ThreadPool& pool) {
  std::vector<double> losses(targets.size());
  pool.parallel_for(targets.size(), [&](size_t t, int) {
    float* row = logits + t * n_vocab;
    if (targets[t] < 0) {
      std::fill(row, row + n_vocab, 0.0f);
      return;
    }
    const auto target = static_cast<size_t>(targets[t]);
    losses[t] = kernels().log_sum_exp(row, n_vocab) - static_cast<double>(row[target]);
    kernels().softmax(row, n_vocab);
    row[target] -= 1;
    if (scale != 1.0f)
      for (size_t i = 0; i < n_vocab; ++i) row[i] *= scale;
  });
  return sum_of(losses);
}

double divergence_loss(std::span<const float> base, float scale, float* logits, size_t n_vocab, ThreadPool& pool) {
  std::vector<double> losses(base.size() / n_vocab);
  pool.parallel_for(losses.size(), [&](size_t t, int) {
    float* row = logits + t * n_vocab;
    const float* base_row = base.data() + t * n_vocab;
    const double log_sum = kernels().log_sum_exp(row, n_vocab), base_log_sum = kernels().log_sum_exp(base_row, n_vocab);
    std::vector<float> p(base_row, base_row + n_vocab);
    kernels().softmax(p.data(), n_vocab);
    double loss = 0;
    for (size_t i = 0; i < n_vocab; ++i)
      loss += static_cast<double>(p[i]) *
              (static_cast<double>(base_row[i]) - base_log_sum - static_cast<double>(row[i]) + log_sum);
    losses[t] = loss;
    kernels().softmax(row, n_vocab);
    for (size_t i = 0; i < n_vocab; ++i) row[i] = scale * (row[i] - p[i]);
  });
  return sum_of(losses);
}

std::vector<TokenId> sample_targets(const float* logits, size_t n, size_t n_vocab, uint64_t seed, uint64_t window,
                                    uint64_t first, ThreadPool& pool) {
  std::vector<TokenId> targets(n);
  pool.parallel_for(n, [&](size_t t, int) {
    const float* row = logits + t * n_vocab;
    std::vector<float> p(row, row + n_vocab);
    kernels().softmax(p.data(), n_vocab);
    double left = RowDraws(seed, window, first + t).uniform();
    size_t i = 0;
    for (; i + 1 < n_vocab; ++i) {
      left -= static_cast<double>(p[i]);
      if (left < 0) break;
    }
    targets[t] = static_cast<TokenId>(i);
  });
  return targets;
}

}  // namespace tsubu
