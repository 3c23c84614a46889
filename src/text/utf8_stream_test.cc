#include "text/utf8_stream.h"

#include <gtest/gtest.h>

namespace tsubu {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";

TEST(Utf8Stream, AnySplitGivesTheSameText) {
  // One, two, three and four bytes; the highest code point; a character next to the surrogates.
  const std::string text = "aé粒🌾\U0010ffff\ud7ff!";
  for (size_t first = 0; first <= text.size(); ++first)
    for (size_t second = first; second <= text.size(); ++second) {
      Utf8Stream stream;
      std::string out = stream.feed(text.substr(0, first));
      EXPECT_TRUE(utf8_is_valid(out));
      const std::string middle = stream.feed(text.substr(first, second - first));
      EXPECT_TRUE(utf8_is_valid(middle));
      out += middle;
      out += stream.feed(text.substr(second));
      out += stream.finish();
      ASSERT_EQ(out, text) << first << " " << second;
    }
}

TEST(Utf8Stream, BytesThatCannotBecomeACharacterAreReplacedAtOnce) {
  for (const std::string bad : {"\x80", "\xc0", "\xf5", "\xff", "\xc1"}) {
    Utf8Stream stream;
    EXPECT_EQ(stream.feed(bad), kReplacement);
    EXPECT_EQ(stream.finish(), "");
  }
  Utf8Stream stream;
  EXPECT_EQ(stream.feed("\xe7\xb2"), "");           // waits for the third byte
  EXPECT_EQ(stream.feed("a"), std::string(kReplacement) + std::string(kReplacement) + "a");
  EXPECT_EQ(stream.feed("\xed\xa0"), std::string(kReplacement) + std::string(kReplacement));  // a surrogate
}

TEST(Utf8Stream, FinishShowsThatACharacterIsCut) {
  Utf8Stream stream;
  EXPECT_EQ(stream.feed("a\xf0\x9f\x8c"), "a");
  EXPECT_EQ(stream.finish(), kReplacement);
  EXPECT_EQ(stream.finish(), "");
}

}  // namespace
}  // namespace tsubu
