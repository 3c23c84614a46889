#include "evaluate/paired.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace tsubu {
namespace {

TEST(McNemar, IsTheBinomialTest) {
  EXPECT_EQ(mcnemar_exact(0, 0), 1);
  EXPECT_EQ(mcnemar_exact(3, 3), 1);
  EXPECT_NEAR(mcnemar_exact(0, 5), 2 * std::pow(0.5, 5), 1e-14);
  EXPECT_NEAR(mcnemar_exact(9, 1), 2 * 11 * std::pow(0.5, 10), 1e-14);  // (1 + 10) / 1024, twice
  EXPECT_EQ(mcnemar_exact(2, 9), mcnemar_exact(9, 2));
  EXPECT_GT(mcnemar_exact(100000, 100500), 0.2);
  EXPECT_LT(mcnemar_exact(100000, 103000), 1e-9);
}

TEST(Normal, QuantileInvertsTheDistribution) {
  EXPECT_NEAR(normal_quantile(0.975), 1.959963985, 1e-8);
  EXPECT_NEAR(normal_quantile(0.8), 0.841621234, 1e-8);
  for (double p : {1e-6, 0.01, 0.5, 0.99}) EXPECT_NEAR(normal_cdf(normal_quantile(p)), p, 1e-9);
}

TEST(MinimumDetectableEffect, IsThatOfTheSource) {  // 2605.28873: .10 flips, 1000 and 10 000 questions
  EXPECT_NEAR(minimum_detectable_effect(1000, 0.10), 0.028, 0.0005);
  EXPECT_NEAR(minimum_detectable_effect(10000, 0.10), 0.009, 0.0005);
  EXPECT_EQ(minimum_detectable_effect(0, 0.1), 1);
}

TEST(Holm, StepsDown) {
  const std::vector<double> p = {0.01, 0.04, 0.03, 0.005};
  const std::vector<double> adjusted = holm(p);
  EXPECT_NEAR(adjusted[3], 0.02, 1e-15);
  EXPECT_NEAR(adjusted[0], 0.03, 1e-15);
  EXPECT_NEAR(adjusted[2], 0.06, 1e-15);
  EXPECT_NEAR(adjusted[1], 0.06, 1e-15);  // never below one that came before it
  EXPECT_TRUE(holm({}).empty());
}

PairedCounts counts(uint64_t both, uint64_t lost, uint64_t gained, uint64_t neither) {
  return {both, lost, gained, neither};
}

TEST(Tango, IsZeroAtTheObservedDifferenceAndTheIntervalHoldsIt) {
  const PairedCounts c = counts(43, 0, 1, 0);
  EXPECT_NEAR(tango_score(c, c.difference()), 0, 1e-9);
  const Interval i = paired_interval(counts(300, 40, 25, 200));
  EXPECT_LT(i.low, -15.0 / 565);
  EXPECT_GT(i.high, -15.0 / 565);
  // Large samples: the interval is that of the normal approximation.
  const double error = std::sqrt(65.0 / 565 - std::pow(15.0 / 565, 2)) / std::sqrt(565);
  EXPECT_NEAR(i.high - i.low, 2 * 1.96 * error, 0.04 * 2 * 1.96 * error);
}

TEST(Tango, NoFlipsProveOnlyWhatTheNumberOfQuestionsCan) {
  EXPECT_LT(non_inferiority_p(counts(600, 0, 0, 400), 0.01), 0.001);
  EXPECT_GT(non_inferiority_p(counts(60, 0, 0, 40), 0.01), 0.05);
  EXPECT_GT(non_inferiority_p(counts(500, 50, 0, 450), 0.01), 0.999);
}

// What the interval promises: it holds the true difference 95 times in 100 (± 3 standard errors of 2000 trials).
TEST(Tango, IntervalCovers) {
  std::mt19937_64 random(11);
  std::uniform_real_distribution<double> uniform;
  int held = 0;
  constexpr int kTrials = 2000;
  for (int t = 0; t < kTrials; ++t) {
    PairedCounts c;
    for (int i = 0; i < 200; ++i) {
      const double u = uniform(random);
      c.add(u < 0.58, u < 0.5 || (u > 0.58 && u < 0.63));  // lost .08, gained .05
    }
    const Interval i = paired_interval(c);
    held += i.low <= -0.03 && i.high >= -0.03;
  }
  EXPECT_NEAR(held / static_cast<double>(kTrials), 0.95, 3 * std::sqrt(0.95 * 0.05 / kTrials));
}

TEST(PairedCounts, CountWhatChanged) {
  PairedCounts c;
  c.add(true, true);
  c.add(true, false);
  c.add(true, false);
  c.add(false, true);
  EXPECT_EQ(c.n(), 4u);
  EXPECT_EQ(c.lost, 2u);
  EXPECT_EQ(c.gained, 1u);
  EXPECT_EQ(c.base_share(), 0.75);
  EXPECT_EQ(c.candidate_share(), 0.5);
  EXPECT_EQ(c.flips(), 0.75);
  EXPECT_EQ(PairedCounts().flips(), 0);
}

}  // namespace
}  // namespace tsubu
