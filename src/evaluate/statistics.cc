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

namespace {

// Share below the interval's lower end, of the resampled values: 2.5 % of a normal distribution as Student's t with
// n - 1 degrees of freedom and the resamples' variance, short by (n - 1) / n, see it. t by its expansion in 1 / (n - 1).
// Source: Hesterberg, arXiv:1411.5279 (the expanded percentile interval).
double lower_share(size_t n_blocks) {
  if (n_blocks < 2) return 0.025;
  const double z = 1.959963984540054, n = static_cast<double>(n_blocks), v = n - 1;
  const double t = z + (std::pow(z, 3) + z) / (4 * v) + (5 * std::pow(z, 5) + 16 * std::pow(z, 3) + 3 * z) / (96 * v * v) +
                   (3 * std::pow(z, 7) + 19 * std::pow(z, 5) + 17 * std::pow(z, 3) - 15 * z) / (384 * v * v * v);
  return 0.5 * std::erfc(t * std::sqrt(n / v) / std::sqrt(2.0));
}

}  // namespace

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
  const double share = lower_share(blocks.size());
  return {at(share), at(1 - share)};
}

}  // namespace tsubu
