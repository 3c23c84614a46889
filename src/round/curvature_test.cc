#include "round/curvature.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace tsubu {
namespace {

// A Gram matrix of correlated columns, some of them far larger than others.
std::vector<float> random_gram(size_t n, size_t n_tokens, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<double> sum(n * n);
  std::vector<float> x(n);
  for (size_t t = 0; t < n_tokens; ++t) {
    const float common = normal(random);
    for (size_t i = 0; i < n; ++i) x[i] = (normal(random) + common) * (i % 7 == 3 ? 10.0f : 1.0f);
    for (size_t i = 0; i < n; ++i)
      for (size_t j = 0; j < n; ++j) sum[i * n + j] += static_cast<double>(x[i]) * static_cast<double>(x[j]);
  }
  return {sum.begin(), sum.end()};
}

class CurvatureSize : public testing::TestWithParam<size_t> {};

TEST_P(CurvatureSize, FactorAndSolve) {
  const size_t n = GetParam();
  ThreadPool pool(2);
  const Curvature c(random_gram(n, 2 * n, 1), n, 2 * n, 0.01, pool);
  double largest = 0, worst = 0;
  for (size_t i = 0; i < n; ++i)
    for (size_t j = i; j < n; ++j) {
      double sum = 0;  // (M D Mᵀ)_ij = Σ_{k ≥ j} M_ik D_k M_jk
      for (size_t k = j; k < n; ++k)
        sum += static_cast<double>(c.m()[i * n + k]) * static_cast<double>(c.pivots()[k]) *
               static_cast<double>(c.m()[j * n + k]);
      const double h = static_cast<double>(c.h()[i * n + j]);
      largest = std::max(largest, std::fabs(h));
      worst = std::max(worst, std::fabs(sum - h));
    }
  EXPECT_LT(worst, 1e-5 * largest);

  const size_t n_rows = 37;
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  std::vector<float> b(n_rows * n);
  for (float& v : b) v = normal(random);
  std::vector<float> x = b;
  c.solve(x.data(), n_rows, pool);
  double error = 0, norm = 0;
  for (size_t r = 0; r < n_rows; ++r)
    for (size_t j = 0; j < n; ++j) {
      double sum = 0;
      for (size_t k = 0; k < n; ++k) sum += static_cast<double>(x[r * n + k]) * static_cast<double>(c.h()[k * n + j]);
      error += (sum - static_cast<double>(b[r * n + j])) * (sum - static_cast<double>(b[r * n + j]));
      norm += static_cast<double>(b[r * n + j]) * static_cast<double>(b[r * n + j]);
    }
  EXPECT_LT(std::sqrt(error / norm), 1e-3);
}

INSTANTIATE_TEST_SUITE_P(Sizes, CurvatureSize, testing::Values(1, 5, 64, 100, 256, 300, 512, 600));

}  // namespace
}  // namespace tsubu
