#include "plan/allocate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace tsubu {
namespace {

using Classes = std::vector<std::vector<AllocationChoice>>;

Classes random_classes(size_t n, size_t n_choices, std::mt19937& random, bool smooth) {
  std::uniform_real_distribution<double> uniform(0, 1);
  Classes classes;
  for (size_t c = 0; c < n; ++c) {
    std::vector<AllocationChoice> choices;
    const double size = std::pow(10, uniform(random)), harm = std::pow(10, 3 * uniform(random));
    for (size_t i = 0; i < n_choices; ++i) {
      const double bits = 2 + 6 * uniform(random);
      choices.push_back(smooth ? AllocationChoice{std::round(1000 * size * bits), harm * std::pow(4, -bits) * (0.7 + uniform(random))}
                               : AllocationChoice{std::round(100 * uniform(random)), uniform(random)});
    }
    classes.push_back(choices);
  }
  return classes;
}

double least_cost(const Classes& classes, double budget, size_t c = 0) {
  if (budget < 0) return std::numeric_limits<double>::infinity();
  if (c == classes.size()) return 0;
  double best = std::numeric_limits<double>::infinity();
  for (const AllocationChoice& choice : classes[c])
    best = std::min(best, choice.cost + least_cost(classes, budget - choice.weight, c + 1));
  return best;
}

TEST(Allocate, FindsTheOptimumThatTryingAllFinds) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    const Classes classes = random_classes(6, 4, random, round % 2 == 0);
    double lightest = 0, heaviest = 0;
    for (const auto& choices : classes) {
      double low = 1e300, high = 0;
      for (const auto& choice : choices) {
        low = std::min(low, choice.weight);
        high = std::max(high, choice.weight);
      }
      lightest += low;
      heaviest += high;
    }
    const double budget = lightest + (heaviest - lightest) * (round % 10) / 9;
    const Allocation a = allocate(classes, budget);
    ASSERT_TRUE(a.feasible);
    EXPECT_LE(a.weight, budget);
    EXPECT_NEAR(a.cost, least_cost(classes, budget), 1e-9 * a.cost);
    EXPECT_TRUE(a.is_optimal());
  }
}

TEST(Allocate, ProvesTheOptimumOfALargeModel) {
  std::mt19937 random(2);
  const Classes classes = random_classes(400, 16, random, true);
  const std::vector<Allocation> front = allocation_front(classes);
  const double budget = (front.front().weight + front.back().weight) / 2;
  const Allocation a = allocate(classes, budget);
  ASSERT_TRUE(a.feasible);
  EXPECT_LE(a.weight, budget);
  EXPECT_GE(a.bound, a.cost * (1 - 1e-6));
  EXPECT_GT(a.weight, 0.999 * budget);
}

TEST(Allocate, SaysWhenNothingFits) {
  const Classes classes = {{{5, 1}, {9, 0}}, {{3, 1}}};
  EXPECT_FALSE(allocate(classes, 7).feasible);
  EXPECT_EQ(allocate(classes, 7).choice, (std::vector<size_t>{0, 0}));
  EXPECT_EQ(allocate(classes, 8).choice, (std::vector<size_t>{0, 0}));
  EXPECT_EQ(allocate(classes, 12).choice, (std::vector<size_t>{1, 0}));
}

// With too few states for a proof the bound says so and still holds.
TEST(Allocate, KeepsAnHonestBoundWithFewStates) {
  std::mt19937 random(3);
  for (int round = 0; round < 50; ++round) {
    const Classes classes = random_classes(7, 4, random, false);
    const double budget = 300;
    const Allocation a = allocate(classes, budget, 3), exact = allocate(classes, budget);
    if (!exact.feasible) continue;
    EXPECT_LE(a.bound, exact.cost + 1e-12);
    EXPECT_GE(a.cost, exact.cost - 1e-12);
    EXPECT_LE(a.weight, budget);
  }
}

TEST(AllocationFront, EveryPointIsTheOptimumForItsWeight) {
  std::mt19937 random(4);
  const Classes classes = random_classes(5, 5, random, true);
  const std::vector<Allocation> front = allocation_front(classes);
  ASSERT_GE(front.size(), 5u);
  for (size_t i = 0; i < front.size(); ++i) {
    EXPECT_NEAR(front[i].cost, least_cost(classes, front[i].weight), 1e-9 * front[i].cost + 1e-12);
    if (i == 0) continue;
    EXPECT_GT(front[i].weight, front[i - 1].weight);
    EXPECT_LT(front[i].cost, front[i - 1].cost);
  }
}

}  // namespace
}  // namespace tsubu
