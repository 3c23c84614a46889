#include "round/curvature.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "base/error.h"
#include "round/random_gram.h"

namespace tsubu {
namespace {

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

TEST(Curvature, RaisesTheDampingOrRefuses) {
  ThreadPool pool(1);
  const std::vector<float> ones(64 * 64, 1.0f);  // one direction only
  const Curvature c(ones, 64, 1, 0, pool);
  EXPECT_GT(c.damping(), 0);
  const Curvature idle(std::vector<float>(64 * 64), 64, 1, 0.01, pool);  // never active
  EXPECT_GT(idle.pivots()[0], 0);
  std::vector<float> bad = ones;
  bad[0] = NAN;
  EXPECT_THROW(Curvature(bad, 64, 1, 0.01, pool), Error);
  bad[0] = -1e9f;
  EXPECT_THROW(Curvature(bad, 64, 1, 0.01, pool), Error);
}

INSTANTIATE_TEST_SUITE_P(Sizes, CurvatureSize, testing::Values(1, 5, 64, 100, 256, 300, 512, 600));

}  // namespace
}  // namespace tsubu
