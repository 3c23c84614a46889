#include "text/byte_trie.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <map>

#include "text/base64.h"
#include "text/byte_alphabet.h"
#include "text/utf8.h"

namespace tsubu {
namespace {

using Hits = std::vector<std::pair<size_t, int32_t>>;

Hits prefixes(const ByteTrie& trie, std::string_view text) {
  Hits hits;
  trie.visit_prefixes(text, [&](size_t length, int32_t value) { hits.emplace_back(length, value); });
  return hits;
}

TEST(ByteTrie, PrefixesShortestFirst) {
  const ByteTrie trie({{"ab", 1}, {"a", 0}, {"abcd", 2}, {"\xFF", 3}, {"", 9}, {"a", 8}});
  EXPECT_EQ(prefixes(trie, "abcde"), (Hits{{1, 0}, {2, 1}, {4, 2}}));
  EXPECT_EQ(prefixes(trie, "\xFFz"), (Hits{{1, 3}}));
  EXPECT_EQ(prefixes(trie, ""), Hits{});
  EXPECT_EQ(prefixes(trie, "b"), Hits{});
  EXPECT_EQ(prefixes(ByteTrie(), "a"), Hits{});
}

TEST(ByteTrie, LikeAMap) {
  EXPECT_TRUE(rc::check("", [] {
    const auto byte = rc::gen::map(rc::gen::inRange(0, 30), [](int i) { return static_cast<char>(i * 8); });
    const auto word = rc::gen::container<std::string>(byte);
    const auto keys = *rc::gen::container<std::vector<std::string>>(word);
    const std::string text = *word;
    std::vector<std::pair<std::string_view, int32_t>> entries;
    std::map<std::string, int32_t> map;
    for (const std::string& key : keys) {
      entries.emplace_back(key, static_cast<int32_t>(entries.size()));
      map.try_emplace(key, entries.back().second);
    }
    Hits expected;
    for (size_t length = 1; length <= text.size(); ++length)
      if (const auto found = map.find(text.substr(0, length)); found != map.end())
        expected.emplace_back(length, found->second);
    RC_ASSERT(prefixes(ByteTrie(entries), text) == expected);
  }));
}

TEST(Utf8, OnlyWellFormedCharactersCount) {
  for (char32_t c :
       {U'\0', U'\x7F', U'\x80', U'\x7FF', U'\x800', U'\xD7FF', U'\xE000', U'\xFFFF', U'\x10000', U'\x10FFFF'}) {
    std::string text;
    append_utf8(text, c);
    ASSERT_EQ(utf8_char_length(text, 0), text.size()) << static_cast<uint32_t>(c);
    EXPECT_EQ(utf8_code_point(text, 0, text.size()), c);
    EXPECT_EQ(utf8_char_length(std::string_view(text).substr(0, text.size() - 1), 0), 0u) << "cut off";
  }
  for (const char* bad : {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF",
                          "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\xC3 ", "\xE7\x8C "})
    EXPECT_EQ(utf8_char_length(bad, 0), 0u) << bad;
}

TEST(ByteAlphabet, AllBytesThereAndBack) {
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  EXPECT_EQ(bytes_from_alphabet(bytes_to_alphabet(all)), all);
  EXPECT_EQ(bytes_to_alphabet(" a\n"), "ĠaĊ");
  EXPECT_EQ(bytes_from_alphabet(" "), std::nullopt);
  EXPECT_EQ(bytes_from_alphabet("猫"), std::nullopt);
  EXPECT_EQ(bytes_from_alphabet("\xFF"), std::nullopt);
}

TEST(Base64, DecodesOrRefuses) {
  EXPECT_EQ(decode_base64(""), "");
  EXPECT_EQ(decode_base64("TQ=="), "M");
  EXPECT_EQ(decode_base64("TWE="), "Ma");
  EXPECT_EQ(decode_base64("TWFu"), "Man");
  EXPECT_EQ(decode_base64("/+8A"), std::string("\xFF\xEF\0", 3));
  for (const char* bad : {"T", "TW", "TQ=", "T===", "TW=u", "TW u", "TWF\n"})
    EXPECT_EQ(decode_base64(bad), std::nullopt) << bad;
}

}  // namespace
}  // namespace tsubu
