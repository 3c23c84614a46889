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

// 97.5 % of Student's t with v degrees of freedom: exact for 1 and 2, else its expansion in 1 / v (3: 3.16 for 3.18).
double student_975(size_t v) {
  if (v == 1) return 12.706;
  if (v == 2) return 4.303;
  const double z = 1.959963984540054, n = static_cast<double>(v);
  return z + (std::pow(z, 3) + z) / (4 * n) + (5 * std::pow(z, 5) + 16 * std::pow(z, 3) + 3 * z) / (96 * n * n) +
         (3 * std::pow(z, 7) + 19 * std::pow(z, 5) + 17 * std::pow(z, 3) - 15 * z) / (384 * n * n * n);
}

// Sums over drawn blocks, of which the mean over their tokens and its standard error (of a ratio) come.
struct Drawn {
  double n = 0, x = 0, xx = 0, xn = 0, nn = 0;
  void add(double blocks_n, double sum) {
    n += blocks_n;
    x += sum;
    xx += sum * sum;
    xn += sum * blocks_n;
    nn += blocks_n * blocks_n;
  }
  double mean() const { return x / n; }
  double error(size_t n_blocks) const {
    const double k = static_cast<double>(n_blocks), m = mean();
    return std::sqrt(std::max(0.0, xx - 2 * m * xn + m * m * nn) * k / (k - 1)) / n;
  }
};

// Of the error of all blocks: what a resample's own error is taken for at least. Resamples without the one block that
// differs have none, and one such block in all tells of a rate up to about five standard errors higher.
constexpr double kLeastError = 0.2;

}  // namespace

Interval mean_interval(std::span<const BlockSums> blocks, uint32_t n_resamples, uint64_t seed, double BlockSums::*sum) {
  if (blocks.empty() || n_resamples == 0) return {};
  Drawn all;
  for (const BlockSums& b : blocks) all.add(b.n, b.*sum);
  const double mean = all.mean();
  if (blocks.size() < 2) return {mean, mean};
  const double error = all.error(blocks.size());
  // Blocks that are alike: what is left of the error is rounding of the sums.
  if (!(error > 1e-9 * std::abs(mean))) return {mean, mean};
  std::mt19937_64 random(seed);  // its sequence is fixed by the standard
  std::vector<double> values;
  for (uint32_t r = 0; r < n_resamples; ++r) {
    Drawn drawn;
    for (size_t i = 0; i < blocks.size(); ++i) {
      const BlockSums& b = blocks[random() % blocks.size()];
      drawn.add(b.n, b.*sum);
    }
    values.push_back((drawn.mean() - mean) / std::max(drawn.error(blocks.size()), kLeastError * error));
  }
  std::sort(values.begin(), values.end());
  const auto at = [&](double q) {
    return values[static_cast<size_t>(std::llround(q * static_cast<double>(values.size() - 1)))];
  };
  const double t = student_975(blocks.size() - 1);
  return {mean - error * std::max(t, at(0.975)), mean + error * std::max(t, -at(0.025))};
}

}  // namespace tsubu
