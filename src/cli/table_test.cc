#include "cli/table.h"

#include <gtest/gtest.h>

namespace tsubu {
namespace {

TEST(Table, AlignsByCharactersAndTrimsLineEnds) {
  Table table({"name", ">size", "note"});
  table.add({"é×", "1"});
  table.add({"longer", "12345", "x"});
  EXPECT_EQ(table.text(1),
            " name     size  note\n"
            " é×          1\n"
            " longer  12345  x\n");
}

TEST(Table, NoHeadingLineWhenAllHeadingsAreEmpty) {
  Table table({"", ""});
  table.add({"a", "b"});
  EXPECT_EQ(table.text(), "a  b\n");
}

}  // namespace
}  // namespace tsubu
