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

TEST(Bootstrap, EqualBlocksHaveNoWidth) {
  const std::vector<BlockSums> blocks(9, BlockSums{.n = 4, .kld = 2});
  const Interval i = mean_interval(blocks, 200, 1, &BlockSums::kld);
  EXPECT_EQ(i.low, 0.5);
  EXPECT_EQ(i.high, 0.5);
}

TEST(Bootstrap, SeedDecides) {
  std::mt19937 random(3);
  std::vector<BlockSums> blocks;
  for (int i = 0; i < 20; ++i) blocks.push_back({.n = 10, .kld = static_cast<double>(random() % 1000)});
  const Interval a = mean_interval(blocks, 300, 1, &BlockSums::kld), b = mean_interval(blocks, 300, 1, &BlockSums::kld);
  const Interval c = mean_interval(blocks, 300, 2, &BlockSums::kld);
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
  const Interval i = mean_interval(blocks, 2000, 1, &BlockSums::kld);
  EXPECT_NEAR(i.high - i.low, 2 * 1.96 * error, 0.15 * 2 * 1.96 * error);
  EXPECT_NEAR((i.high + i.low) / 2, sum / 400, 0.3 * error);
}

// Two blocks: Student's t of one degree of freedom, 12.706 standard errors; here the error is 1.
TEST(Bootstrap, FewBlocksAreAsWideAsStudentsT) {
  const std::vector<BlockSums> two = {{.n = 1, .kld = 2}, {.n = 1, .kld = 4}};
  EXPECT_NEAR(mean_interval(two, 1000, 1, &BlockSums::kld).high, 3 + 12.706, 1e-3);
  const std::vector<BlockSums> one = {{.n = 1, .kld = 2}};
  EXPECT_EQ(mean_interval(one, 1000, 1, &BlockSums::kld).high, 2);
}

// One token of 1280 disagrees: no resample's interval runs away, and the rate may be five times as high.
TEST(Bootstrap, OneBlockThatDiffersIsNoInfinity) {
  std::vector<BlockSums> blocks(10, BlockSums{.n = 128, .top1 = 128});
  blocks[3].top1 = 127;
  const Interval i = mean_interval(blocks, 1000, 1, &BlockSums::top1);
  EXPECT_LT(i.low, 1 - 2.0 / 1280);
  EXPECT_GT(i.low, 1 - 8.0 / 1280);
}

TEST(Bootstrap, NothingGivesNothing) {
  EXPECT_EQ(mean_interval({}, 10, 1, &BlockSums::kld).high, 0);
  EXPECT_EQ(mean_interval(std::vector<BlockSums>(2, BlockSums{.n = 1, .kld = 1}), 0, 1, &BlockSums::kld).high, 0);
}

}  // namespace
}  // namespace tsubu
