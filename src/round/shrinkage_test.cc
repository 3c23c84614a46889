#include "round/shrinkage.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace tsubu {
namespace {

constexpr size_t kCols = 24;

// Tokens z = s · L u of independent normal numbers u, with neighbors correlated.
class Tokens {
 public:
  explicit Tokens(float neighbor, uint32_t seed) : neighbor_(neighbor), random_(seed) {}
  std::vector<float> next() {
    std::vector<float> z(kCols);
    float before = 0;
    for (float& v : z) v = before = neighbor_ * before + normal_(random_);
    return z;
  }
  // E z zᵀ.
  std::vector<double> truth() const {
    std::vector<double> h(kCols * kCols);
    std::vector<std::vector<double>> rows(kCols, std::vector<double>(kCols));
    for (size_t i = 0; i < kCols; ++i)
      for (size_t j = 0; j <= i; ++j) rows[i][j] = std::pow(static_cast<double>(neighbor_), static_cast<double>(i - j));
    for (size_t i = 0; i < kCols; ++i)
      for (size_t j = 0; j < kCols; ++j)
        for (size_t k = 0; k < kCols; ++k) h[i * kCols + j] += rows[i][k] * rows[j][k];
    return h;
  }

 private:
  float neighbor_;
  std::mt19937 random_;
  std::normal_distribution<float> normal_;
};

struct Sample {
  std::vector<float> gram = std::vector<float>(kCols * kCols);
  TokenSpread spread;
  Sample(Tokens& tokens, size_t n, std::span<const float> metric) {
    for (size_t t = 0; t < n; ++t) {
      const std::vector<float> z = tokens.next();
      spread.add(z.data(), metric);
      for (size_t i = 0; i < kCols * kCols; ++i) gram[i] += z[i / kCols] * z[i % kCols] / static_cast<float>(n);
    }
  }
};

double squared_error(std::span<const float> a, std::span<const double> b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
  return sum;
}

const std::vector<float> kOnes(kCols, 1.0f);

TEST(Shrinkage, FewTokensGoToThePoolManyStay) {
  ThreadPool pool(2);
  Tokens own(0.7f, 1), others(0.5f, 2);
  const Sample pooled(others, 4000, kOnes);
  double before = 1;
  for (size_t n : {3, 12, 100, 4000, 100000}) {
    Sample s(own, n, kOnes);
    const double rho = shrink_to_pool(s.gram, s.spread, kOnes, pooled.gram, 0, pool);
    EXPECT_LE(rho, before) << n;
    before = rho;
  }
  EXPECT_LT(before, 0.01);
}

TEST(Shrinkage, IsNearerToTheTruthThanEitherOne) {
  ThreadPool pool(2);
  Tokens own(0.7f, 3), others(0.5f, 4);
  const std::vector<double> truth = own.truth();
  const Sample pooled(others, 4000, kOnes);
  double shrunk = 0, alone = 0, rho = 0, best_rho = 0, best = 1e30;
  constexpr int kTimes = 40;
  std::vector<double> by_share(21);
  for (int i = 0; i < kTimes; ++i) {
    Sample s(own, 20, kOnes);
    alone += squared_error(s.gram, truth);
    double size = 0, pooled_size = 0;
    for (size_t c = 0; c < kCols; ++c) size += static_cast<double>(s.gram[c * kCols + c]);
    for (size_t c = 0; c < kCols; ++c) pooled_size += static_cast<double>(pooled.gram[c * kCols + c]);
    for (size_t k = 0; k < by_share.size(); ++k) {
      std::vector<float> mixed = s.gram;
      const auto share = static_cast<float>(k) / 20;
      for (size_t j = 0; j < mixed.size(); ++j)
        mixed[j] = (1 - share) * mixed[j] + share * static_cast<float>(size / pooled_size) * pooled.gram[j];
      by_share[k] += squared_error(mixed, truth);
    }
    rho += shrink_to_pool(s.gram, s.spread, kOnes, pooled.gram, 0, pool) / kTimes;
    shrunk += squared_error(s.gram, truth);
  }
  for (size_t k = 0; k < by_share.size(); ++k)
    if (by_share[k] < best) {
      best = by_share[k];
      best_rho = static_cast<double>(k) / 20;
    }
  EXPECT_LT(shrunk, 0.8 * alone);
  EXPECT_LT(shrunk, by_share.back());  // the pool alone
  EXPECT_LT(shrunk, 1.15 * best);      // of all shares, known afterwards
  EXPECT_NEAR(rho, best_rho, 0.2);
}

TEST(Shrinkage, TowardTheDiagonalAsManyTokensAllow) {
  ThreadPool pool(2);
  Tokens tokens(0.7f, 5);
  const std::vector<double> truth = tokens.truth();
  Sample few(tokens, 8, kOnes), many(tokens, 20000, kOnes);
  const std::vector<float> diagonal = few.gram;
  const double alone = squared_error(few.gram, truth);
  EXPECT_GT(shrink_to_diagonal(few.gram, few.spread, kOnes, pool), 0.1);
  EXPECT_LT(squared_error(few.gram, truth), alone);
  for (size_t i = 0; i < kCols; ++i) EXPECT_EQ(few.gram[i * kCols + i], diagonal[i * kCols + i]);
  EXPECT_LT(shrink_to_diagonal(many.gram, many.spread, kOnes, pool), 0.01);
}

TEST(Shrinkage, WithoutTokensThePoolItself) {
  ThreadPool pool(1);
  Tokens others(0.5f, 6);
  const Sample pooled(others, 100, kOnes);
  std::vector<float> nothing(kCols * kCols);
  EXPECT_EQ(shrink_to_pool(nothing, {}, kOnes, pooled.gram, 0, pool), 1);
  EXPECT_EQ(nothing, pooled.gram);
  std::vector<float> one(kCols * kCols, 1.0f);
  TokenSpread spread;
  spread.add(kOnes.data(), kOnes);
  EXPECT_EQ(shrink_to_diagonal(one, spread, kOnes, pool), 1);
  EXPECT_EQ(one[1], 0);
  EXPECT_EQ(one[0], 1);
}

TEST(Shrinkage, DoesNotDependOnTheColumnsSizeWithTheirMetric) {
  ThreadPool pool(2);
  Tokens a(0.6f, 7), b(0.6f, 7), others(0.4f, 8);
  std::vector<float> metric(kCols), factor(kCols);
  for (size_t i = 0; i < kCols; ++i) {
    factor[i] = static_cast<float>(1 << (i % 5));
    metric[i] = 1 / (factor[i] * factor[i]);
  }
  const Sample pooled(others, 300, kOnes);
  std::vector<float> scaled_pool = pooled.gram;
  for (size_t i = 0; i < scaled_pool.size(); ++i) scaled_pool[i] *= factor[i / kCols] * factor[i % kCols];
  Sample plain(a, 15, kOnes);
  std::vector<float> scaled = plain.gram;
  for (size_t i = 0; i < scaled.size(); ++i) scaled[i] *= factor[i / kCols] * factor[i % kCols];
  TokenSpread spread;
  for (size_t t = 0; t < 15; ++t) {
    std::vector<float> z = b.next();
    for (size_t i = 0; i < kCols; ++i) z[i] *= factor[i];
    spread.add(z.data(), metric);
  }
  const double one = shrink_to_pool(plain.gram, plain.spread, kOnes, pooled.gram, 0.1, pool);
  const double other = shrink_to_pool(scaled, spread, metric, scaled_pool, 0.1, pool);
  EXPECT_NEAR(one, other, 1e-6);
}

}  // namespace
}  // namespace tsubu
