#include "cli/output.h"

#include <gtest/gtest.h>

namespace tsubu {
namespace {

TEST(Output, CountsKeepThreeDigits) {
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(9999), "9999");
  EXPECT_EQ(format_count(10000), "10 k");
  EXPECT_EQ(format_count(999'499), "999 k");
  EXPECT_EQ(format_count(999'600), "1 M");
  EXPECT_EQ(format_count(7'264'320), "7.26 M");
  EXPECT_EQ(format_count(8'030'261'248), "8.03 G");
}

TEST(Output, PrintableEscapesWhatATerminalWouldObey) {
  EXPECT_EQ(printable("a\n\t\r\\\x1b[0m"), "a\\n\\t\\r\\\\\\x1b[0m");
  EXPECT_EQ(printable("粒\xff"), "粒\\xff");
}

TEST(Output, ShapesAreOutermostFirst) {
  EXPECT_EQ(format_shape({512, 1536}), "512 × 1536");
  EXPECT_EQ(format_shape({}), "scalar");
}

}  // namespace
}  // namespace tsubu
