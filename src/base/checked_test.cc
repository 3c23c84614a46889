#include "base/checked.h"

#include <gtest/gtest.h>

namespace tsubu {
namespace {

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

TEST(Checked, SumsAndProductsAtTheEdge) {
  EXPECT_EQ(checked_add(kMax - 1, 1), kMax);
  EXPECT_EQ(checked_add(kMax, 1), std::nullopt);
  EXPECT_EQ(checked_mul(uint64_t{1} << 32, (uint64_t{1} << 32) - 1), kMax - 0xffffffffu);
  EXPECT_EQ(checked_mul(uint64_t{1} << 32, uint64_t{1} << 32), std::nullopt);
  EXPECT_EQ(checked_mul(0, kMax), 0u);
}

TEST(Checked, Products) {
  EXPECT_EQ(checked_product({}), 1u);
  const uint64_t small[] = {2, 3, 7}, wraps[] = {uint64_t{1} << 40, uint64_t{1} << 24};
  EXPECT_EQ(checked_product(small), 42u);
  EXPECT_EQ(checked_product(wraps), std::nullopt);
}

TEST(Checked, Align) {
  EXPECT_EQ(checked_align(0, 32), 0u);
  EXPECT_EQ(checked_align(1, 32), 32u);
  EXPECT_EQ(checked_align(32, 32), 32u);
  EXPECT_EQ(checked_align(33, 1), 33u);
  EXPECT_EQ(checked_align(kMax - 31, 32), kMax - 31);
  EXPECT_EQ(checked_align(kMax - 30, 32), std::nullopt);
}

TEST(Checked, RangeFits) {
  EXPECT_TRUE(range_fits(0, 0, 0));
  EXPECT_TRUE(range_fits(4, 6, 10));
  EXPECT_TRUE(range_fits(10, 0, 10));
  EXPECT_FALSE(range_fits(11, 0, 10));
  EXPECT_FALSE(range_fits(4, 7, 10));
  EXPECT_FALSE(range_fits(4, kMax - 3, 10));  // the sum wraps to 0
  EXPECT_FALSE(range_fits(kMax, 1, kMax));
}

}  // namespace
}  // namespace tsubu
