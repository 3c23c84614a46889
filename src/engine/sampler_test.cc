#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/test_error_code.h"

namespace tsubu {
namespace {

SamplerOptions options(double temperature, uint32_t top_k, double top_p, uint64_t seed = 1) {
  SamplerOptions o;
  o.temperature = temperature;
  o.top_k = top_k;
  o.top_p = top_p;
  o.seed = seed;
  return o;
}

const std::vector<float> kLogits = {0.5f, 2.0f, -1.0f, 2.0f, 1.0f};

TEST(Sampler, GreedyTakesTheFirstOfEqualMaxima) {
  Sampler sampler(options(0, 40, 0.9));
  for (int i = 0; i < 10; ++i) EXPECT_EQ(sampler.pick(kLogits, {}), 1);
}

TEST(Sampler, OneCandidateIsGreedy) {
  Sampler k(options(1, 1, 1)), p(options(1, 0, 0));
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(k.pick(kLogits, {}), 1);
    EXPECT_EQ(p.pick(kLogits, {}), 1);
  }
}

std::vector<TokenId> sequence(const SamplerOptions& o, size_t n) {
  Sampler sampler(o);
  std::vector<TokenId> ids;
  for (size_t i = 0; i < n; ++i) ids.push_back(sampler.pick(kLogits, {}));
  return ids;
}

TEST(Sampler, SeedsDecide) {
  EXPECT_EQ(sequence(options(1, 0, 1, 7), 50), sequence(options(1, 0, 1, 7), 50));
  EXPECT_NE(sequence(options(1, 0, 1, 7), 50), sequence(options(1, 0, 1, 8), 50));
}

void expect_frequencies(const SamplerOptions& o, const std::vector<double>& weights) {
  constexpr int n = 40000;
  double total = 0;
  for (double w : weights) total += w;
  std::vector<int> counts(weights.size());
  for (TokenId id : sequence(o, n)) ++counts[static_cast<size_t>(id)];
  for (size_t i = 0; i < weights.size(); ++i) {
    const double p = weights[i] / total;
    // Six standard deviations of a binomial count: the seed is fixed, so this never fails by chance later.
    EXPECT_NEAR(counts[i], n * p, 6 * std::sqrt(n * p * (1 - p))) << i;
  }
}

TEST(Sampler, FrequenciesAreTheSoftmax) {
  std::vector<double> weights;
  for (float l : kLogits) weights.push_back(std::exp(static_cast<double>(l) / 0.7));
  expect_frequencies(options(0.7, 0, 1), weights);
}

TEST(Sampler, TopKKeepsTheBest) {
  expect_frequencies(options(1, 3, 1), {0, std::exp(2.0), 0, std::exp(2.0), std::exp(1.0)});
}

TEST(Sampler, TopPKeepsTheFewestThatReachIt) {
  // Shares in order: .391 .391 .144 .087 …; .8 needs three.
  expect_frequencies(options(1, 0, 0.8), {0, std::exp(2.0), 0, std::exp(2.0), std::exp(1.0)});
}

TEST(Sampler, PenaltyMovesBothSignsDown) {
  SamplerOptions o = options(0, 0, 1);
  o.repeat_penalty = 3;
  Sampler sampler(o);
  EXPECT_EQ(sampler.pick(kLogits, std::vector<TokenId>{1}), 3);
  EXPECT_EQ(sampler.pick(kLogits, std::vector<TokenId>{1, 3}), 4);
  EXPECT_EQ(sampler.pick(kLogits, std::vector<TokenId>{1, 3, 1, 1, 99, -5}), 4) << "unknown ids are left out";
  EXPECT_EQ(sampler.pick(std::vector<float>{-1.0f, -2.0f}, std::vector<TokenId>{0}), 1);
  // 2/1.9 is above 1 (token 4), 2/1.9² would be below: a token counts once.
  o.repeat_penalty = 1.9;
  EXPECT_EQ(Sampler(o).pick(kLogits, std::vector<TokenId>{1, 1, 3, 3}), 1);
}

TEST(Sampler, RefusesWhatMakesNoSense) {
  EXPECT_EQ(code_of([] { Sampler(options(-1, 0, 1)); }), ExitCode::kUsage);
  EXPECT_EQ(code_of([] { Sampler(options(std::nan(""), 0, 1)); }), ExitCode::kUsage);
  EXPECT_EQ(code_of([] { Sampler(options(1, 0, 1)).pick({}, {}); }), ExitCode::kUsage);
  EXPECT_EQ(code_of([] {
              Sampler(options(1, 0, 1)).pick(std::vector<float>{1.0f, std::nanf("")}, {});
            }),
            ExitCode::kNumeric);
}

}  // namespace
}  // namespace tsubu
