#include "evaluate/overlap.h"

#include <gtest/gtest.h>

namespace tsubu {
namespace {

TEST(Overlap, WordsAreLowerCaseRunsAndCharactersOfScriptsWithoutSpaces) {
  EXPECT_EQ(overlap_words("The CAT, sat-on 12 mats."),
            (std::vector<std::string>{"the", "cat", "sat", "on", "12", "mats"}));
  EXPECT_EQ(overlap_words("猫が、いる。abc"), (std::vector<std::string>{"猫", "が", "い", "る", "abc"}));
  EXPECT_EQ(overlap_words("café"), (std::vector<std::string>{"café"}));
  EXPECT_TRUE(overlap_words(" ,.\xff\n").empty());
}

TEST(Overlap, ThirteenWordsInCommonAreFoundTwelveAreNot) {
  const std::string twelve = "one two three four five six seven eight nine ten eleven twelve";
  OverlapIndex index;
  index.add("before " + twelve + " thirteen after");
  EXPECT_EQ(index.overlap("x " + twelve + " y").n_shared, 0u);
  const Overlap o = index.overlap("x y " + twelve + ", THIRTEEN z");
  EXPECT_EQ(o.n_shared, 1u);
  EXPECT_EQ(o.n_runs, 4u);
  EXPECT_EQ(o.share(), 0.25);
  EXPECT_EQ(o.first_shared, twelve + " thirteen");
}

TEST(Overlap, ATextIsWhollyInItself) {
  const std::string text = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。";
  OverlapIndex index;
  index.add(text);
  EXPECT_EQ(index.overlap(text).share(), 1);
  EXPECT_EQ(index.overlap("short").share(), 0);
}

}  // namespace
}  // namespace tsubu
