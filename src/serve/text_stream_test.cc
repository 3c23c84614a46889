#include "serve/text_stream.h"

#include <gtest/gtest.h>

namespace tsubu::serve {
namespace {

// What comes out piece by piece, with "|" where a piece ends; "!" when a stop ended it.
std::string streamed(std::vector<std::string> stops, const std::vector<std::string>& pieces) {
  TextStream stream(std::move(stops));
  std::string out;
  for (const std::string& p : pieces) out += stream.feed(p) + "|";
  return out + stream.finish() + (stream.is_stopped() ? "!" : "");
}

TEST(TextStream, PassesTextOn) { EXPECT_EQ(streamed({}, {"a", "b", ""}), "a|b||"); }

TEST(TextStream, KeepsHalfCharacters) {
  EXPECT_EQ(streamed({}, {"x\xe7", "\xb2", "\x92y"}), "x||粒y|");
  EXPECT_EQ(streamed({}, {"x\xe7\xb2"}), "x|\xef\xbf\xbd");
}

TEST(TextStream, StopsAcrossPieces) {
  EXPECT_EQ(streamed({"END"}, {"one E", "N", "D two", "x"}), "one ||||!");
  EXPECT_EQ(streamed({"END"}, {"one E", "N", "x"}), "one ||ENx|");
  EXPECT_EQ(streamed({"END"}, {"E", "EN", "D"}), "|E||!");
  EXPECT_EQ(streamed({"END"}, {"EN"}), "|EN");
  EXPECT_EQ(streamed({"\n\n", "."}, {"a\n", "\nb. c"}), "a||!");
  EXPECT_EQ(streamed({"b", "abc"}, {"xab"}), "xa|!") << "the one that appears first";
  EXPECT_EQ(streamed({"aab"}, {"aa", "ab"}), "|a|!");
}

// Whatever the cuts, the text is the same.
TEST(TextStream, CutsChangeNothing) {
  const std::string text = "abcabdabcaé粒abcabcabd!";
  for (const std::string stop : {"abcabcabd", "zzz", "é粒a", "dab"}) {
    const size_t at = text.find(stop);
    const std::string want = text.substr(0, at);
    for (size_t first = 0; first <= text.size(); ++first)
      for (size_t second = first; second <= text.size(); ++second) {
        TextStream stream({stop});
        std::string got = stream.feed(text.substr(0, first));
        got += stream.feed(text.substr(first, second - first));
        got += stream.feed(text.substr(second));
        got += stream.finish();
        ASSERT_EQ(got, want) << first << " " << second;
        EXPECT_EQ(stream.is_stopped(), at != std::string::npos);
      }
  }
}

}  // namespace
}  // namespace tsubu::serve
