#include "round/shrinkage.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

namespace tsubu {
namespace {

constexpr size_t kRows = 32;  // of a matrix that one thread sums; the sum's order is fixed

// Sums over all elements of a row-wise function; N numbers at once.
template <size_t N, class F>
std::array<double, N> sum_rows(size_t n, ThreadPool& pool, const F& of_row) {
  std::vector<std::array<double, N>> parts((n + kRows - 1) / kRows);
  pool.parallel_for(parts.size(), [&](size_t item, int) {
    for (size_t i = item * kRows; i < std::min(n, (item + 1) * kRows); ++i) {
      const std::array<double, N> row = of_row(i);
      for (size_t k = 0; k < N; ++k) parts[item][k] += row[k];
    }
  });
  std::array<double, N> sum{};
  for (const auto& part : parts)
    for (size_t k = 0; k < N; ++k) sum[k] += part[k];
  return sum;
}

// Σ over tokens of squared norms, less n times the mean's, over n (n - 1): the variance of the mean.
double variance_of_mean(double squares, double of_mean, uint64_t n_tokens) {
  const auto n = static_cast<double>(n_tokens);
  return std::max(0.0, squares - n * of_mean) / (n * (n - 1));
}

double share_of(double variance, double distance) {
  return distance > 0 ? std::clamp(variance / distance, 0.0, 1.0) : 1.0;
}

}  // namespace

void TokenSpread::add(const float* x, std::span<const float> metric) {
  double sum = 0, fourth = 0;
  for (size_t i = 0; i < metric.size(); ++i) {
    const double v = static_cast<double>(metric[i]) * static_cast<double>(x[i]) * static_cast<double>(x[i]);
    sum += v;
    fourth += v * v;
  }
  ++n_tokens;
  whole += sum * sum;
  diagonal += fourth;
}

double shrink_to_pool(std::span<float> gram, const TokenSpread& spread, std::span<const float> metric,
                      std::span<const float> pooled, double own_share, ThreadPool& pool) {
  const size_t n = metric.size();
  double size = 0, pooled_size = 0;
  for (size_t i = 0; i < n; ++i) {
    size += static_cast<double>(metric[i]) * static_cast<double>(gram[i * n + i]);
    pooled_size += static_cast<double>(metric[i]) * static_cast<double>(pooled[i * n + i]);
  }
  // Without tokens that say something of the size, the pool's own.
  const float factor = size > 0 && pooled_size > 0 ? static_cast<float>(size / pooled_size) : 1.0f;
  double rho = 1;
  if (spread.n_tokens >= 2) {
    const auto [norm, distance] = sum_rows<2>(n, pool, [&](size_t i) {
      std::array<double, 2> row{};
      for (size_t j = 0; j < n; ++j) {
        const double a = static_cast<double>(metric[i]) * static_cast<double>(metric[j]);
        const auto s = static_cast<double>(gram[i * n + j]), d = s - static_cast<double>(factor * pooled[i * n + j]);
        row[0] += a * s * s;
        row[1] += a * d * d;
      }
      return row;
    });
    rho = share_of((1 - own_share) * variance_of_mean(spread.whole, norm, spread.n_tokens), distance);
  }
  pool.parallel_for((n + kRows - 1) / kRows, [&](size_t item, int) {
    const float keep = static_cast<float>(1 - rho), take = static_cast<float>(rho) * factor;
    for (size_t i = item * kRows * n; i < std::min(n, (item + 1) * kRows) * n; ++i)
      gram[i] = keep * gram[i] + take * pooled[i];
  });
  return rho;
}

double shrink_to_diagonal(std::span<float> gram, const TokenSpread& spread, std::span<const float> metric, ThreadPool& pool) {
  const size_t n = metric.size();
  double rho = 1;
  if (spread.n_tokens >= 2) {
    const auto [norm] = sum_rows<1>(n, pool, [&](size_t i) {
      std::array<double, 1> row{};
      for (size_t j = 0; j < n; ++j) {
        if (i == j) continue;
        const auto s = static_cast<double>(gram[i * n + j]);
        row[0] += static_cast<double>(metric[i]) * static_cast<double>(metric[j]) * s * s;
      }
      return row;
    });
    rho = share_of(variance_of_mean(spread.whole - spread.diagonal, norm, spread.n_tokens), norm);
  }
  pool.parallel_for((n + kRows - 1) / kRows, [&](size_t item, int) {
    const float keep = static_cast<float>(1 - rho);
    for (size_t i = item * kRows; i < std::min(n, (item + 1) * kRows); ++i)
      for (size_t j = 0; j < n; ++j)
        if (i != j) gram[i * n + j] *= keep;
  });
  return rho;
}

}  // namespace tsubu
