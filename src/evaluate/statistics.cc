#include "evaluate/statistics.h"

#include <algorithm>
#include <cmath>
#include <random>

namespace tsubu {

double quantile(std::span<const float> sorted, double q) {
  if (sorted.empty()) return 0;
  const double at = q * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<size_t>(at);
  const size_t high = std::min(low + 1, sorted.size() - 1);
  const double share = at - static_cast<double>(low);
  return static_cast<double>(sorted[low]) * (1 - share) + static_cast<double>(sorted[high]) * share;
}

Interval block_bootstrap(std::span<const BlockSums> blocks, uint32_t n_resamples, uint64_t seed,
                         const std::function<double(const BlockSums&)>& statistic) {
  if (blocks.empty() || n_resamples == 0) return {};
  std::mt19937_64 random(seed);  // its sequence is fixed by the standard
  std::vector<double> values;
  for (uint32_t r = 0; r < n_resamples; ++r) {
    BlockSums sum;
    for (size_t i = 0; i < blocks.size(); ++i) {
      const BlockSums& b = blocks[random() % blocks.size()];
      sum.n += b.n;
      sum.kld += b.kld;
      sum.top1 += b.top1;
      sum.nll_difference += b.nll_difference;
    }
    values.push_back(statistic(sum));
  }
  std::sort(values.begin(), values.end());
  const auto at = [&](double q) {
    return values[static_cast<size_t>(std::llround(q * static_cast<double>(values.size() - 1)))];
  };
  return {at(0.025), at(0.975)};
}

}  // namespace tsubu
