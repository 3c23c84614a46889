#include "serve/vote_store.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "base/error.h"
#include "base/file.h"

namespace tsubu::serve {
namespace {

TEST(VoteStore, KeepsVotes) {
  const std::string path = ::testing::TempDir() + "/votes.sqlite3";
  std::filesystem::remove(path);
  {
    VoteStore store(path);
    EXPECT_EQ(store.count("m", "b").model, 0u);
    EXPECT_FALSE(std::filesystem::exists(path)) << "no file without a vote";
    store.add({"m", "b", "m", "b", "x"});
    store.add({"m", "b", "m", "m", "'); DROP TABLE votes; --"});
    store.add({"m", "b", "b", "m", "x"});
    store.add({"m", "b", "", "m", "x"});
    store.add({"other", "b", "b", "b", "x"});
  }
  const VoteStore again(path);
  const VoteCount c = again.count("m", "b");
  EXPECT_EQ(c.model, 2u);
  EXPECT_EQ(c.base, 1u);
  EXPECT_EQ(c.ties, 1u);
}

TEST(VoteStore, RefusesAnotherFile) {
  const std::string path = ::testing::TempDir() + "/no-votes.sqlite3";
  write_text_file(path, std::string(4096, 'x'));
  EXPECT_THROW(VoteStore{path}, Error);
  EXPECT_EQ(read_text_file(path), std::string(4096, 'x'));
}

// Wilson's interval of 8 of 10, from the formula by hand: (0.4902, 0.9433); the binomial p of 8:2 is 112/1024.
TEST(VoteStore, CountsWithAnInterval) {
  const VoteCount c = counted(8, 2, 5);
  EXPECT_DOUBLE_EQ(c.share, 0.8);
  EXPECT_NEAR(c.ci95[0], 0.4902, 5e-5);
  EXPECT_NEAR(c.ci95[1], 0.9433, 5e-5);
  EXPECT_NEAR(c.p, 112.0 / 1024, 1e-12);
  EXPECT_EQ(counted(0, 0, 3).ci95[1], 1);
  EXPECT_EQ(counted(0, 4, 0).ci95[0], 0);
}

}  // namespace
}  // namespace tsubu::serve
