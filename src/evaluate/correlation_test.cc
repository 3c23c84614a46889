#include "evaluate/correlation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace tsubu {
namespace {

TEST(Correlation, OfValuesAndOfRanks) {
  const std::vector<double> a = {1, 2, 3, 4}, squares = {1, 4, 9, 16}, tied = {2, 1, 1, 5}, same = {3, 3, 3, 3};
  EXPECT_NEAR(correlation(a, squares), 25 / std::sqrt(5 * 129.0), 1e-12);
  EXPECT_NEAR(rank_correlation(a, squares), 1, 1e-12);
  // Ranks 3, 1.5, 1.5, 4.
  EXPECT_NEAR(rank_correlation(a, tied), 1.5 / std::sqrt(5 * 4.5), 1e-12);
  EXPECT_EQ(rank_correlation(a, same), 0);
}

}  // namespace
}  // namespace tsubu
