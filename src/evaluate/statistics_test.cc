#include "evaluate/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace tsubu {
namespace {

TEST(Quantile, IsLinearBetweenNeighbors) {
  const std::vector<float> x = {1, 2, 4, 8};
  EXPECT_EQ(quantile(x, 0), 1);
  EXPECT_EQ(quantile(x, 1), 8);
  EXPECT_EQ(quantile(x, 0.5), 3);
  EXPECT_DOUBLE_EQ(quantile(x, 0.9), 4 + 0.7 * 4);
  EXPECT_EQ(quantile(std::vector<float>{5}, 0.999), 5);
  EXPECT_EQ(quantile({}, 0.5), 0);
}

double mean(const BlockSums& s) { return s.kld / s.n; }

TEST(Bootstrap, EqualBlocksHaveNoWidth) {
  const std::vector<BlockSums> blocks(9, BlockSums{.n = 4, .kld = 2});
  const Interval i = block_bootstrap(blocks, 200, 1, mean);
  EXPECT_EQ(i.low, 0.5);
  EXPECT_EQ(i.high, 0.5);
}

TEST(Bootstrap, SeedDecides) {
  std::mt19937 random(3);
  std::vector<BlockSums> blocks;
  for (int i = 0; i < 20; ++i) blocks.push_back({.n = 10, .kld = static_cast<double>(random() % 1000)});
  const Interval a = block_bootstrap(blocks, 300, 1, mean), b = block_bootstrap(blocks, 300, 1, mean);
  const Interval c = block_bootstrap(blocks, 300, 2, mean);
  EXPECT_EQ(a.low, b.low);
  EXPECT_EQ(a.high, b.high);
  EXPECT_TRUE(a.low != c.low || a.high != c.high);
}

// Of a mean of normal values the 95 % interval is 2 · 1.96 standard errors wide; 2000 resamples of 400 blocks know that
// to a few per cent.
TEST(Bootstrap, WidthIsThatOfTheStandardError) {
  std::mt19937 random(4);
  std::normal_distribution<double> normal(3, 2);
  std::vector<BlockSums> blocks;
  double sum = 0, square = 0;
  for (int i = 0; i < 400; ++i) {
    blocks.push_back({.n = 1, .kld = normal(random)});
    sum += blocks.back().kld;
    square += blocks.back().kld * blocks.back().kld;
  }
  const double error = std::sqrt((square / 400 - sum / 400 * sum / 400) / 400);
  const Interval i = block_bootstrap(blocks, 2000, 1, mean);
  EXPECT_NEAR(i.high - i.low, 2 * 1.96 * error, 0.15 * 2 * 1.96 * error);
  EXPECT_NEAR((i.high + i.low) / 2, sum / 400, 0.3 * error);
}

TEST(Bootstrap, NothingGivesNothing) {
  EXPECT_EQ(block_bootstrap({}, 10, 1, mean).high, 0);
  EXPECT_EQ(block_bootstrap(std::vector<BlockSums>(2, BlockSums{.n = 1, .kld = 1}), 0, 1, mean).high, 0);
}

}  // namespace
}  // namespace tsubu
