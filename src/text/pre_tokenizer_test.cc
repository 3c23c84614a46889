#include "text/pre_tokenizer.h"

#include <gtest/gtest.h>

#include <set>

#include "base/error.h"
#include "text/tokenizer.h"

namespace tsubu {
namespace {

using Words = std::vector<std::string_view>;

Words split(std::string_view name, std::string_view text) {
  const PreTokenizerSpec* spec = find_pre_tokenizer(name);
  if (spec == nullptr) throw std::runtime_error("no such pre-tokenizer");
  return PreTokenizer(*spec).split(text);
}

TEST(PreTokenizer, NamesAreUniqueAndCompile) {
  std::set<std::string> seen;
  for (const std::string& name : pre_tokenizer_names()) EXPECT_TRUE(seen.insert(name).second) << name;
  for (const char* name :
       {"default",     "llama-bpe", "gpt-2", "qwen2",     "qwen35",    "deepseek-llm", "deepseek-coder",
        "deepseek-v3", "falcon",    "mpt",   "starcoder", "refact",    "command-r",    "gpt-4o",
        "tekken",      "bloom",     "phi-2", "olmo",      "stablelm2", "smollm"})
    EXPECT_TRUE(seen.contains(name)) << name;
  for (const PreTokenizerSpec& spec : pre_tokenizer_specs())
    EXPECT_EQ(PreTokenizer(spec).split("ab").size(), 1u) << spec.names[0];
  EXPECT_EQ(find_pre_tokenizer("no-such-thing"), nullptr);
}

TEST(PreTokenizer, WordsAsTheModelsCutThem) {
  EXPECT_EQ(split("gpt-2", "it's 1234 x\n\n  y"), (Words{"it", "'s", " 1234", " x", "\n\n ", " y"}));
  EXPECT_EQ(split("gpt-2", "IT'S"), (Words{"IT", "'", "S"}));
  EXPECT_EQ(split("llama-bpe", "IT'S 12345\n\n y"), (Words{"IT", "'S", " ", "123", "45", "\n\n", " y"}));
  EXPECT_EQ(split("qwen2", "a123 (b)"), (Words{"a", "1", "2", "3", " (", "b", ")"}));
  EXPECT_EQ(split("starcoder", "a 12"), (Words{"a", " ", "1", "2"}));
  EXPECT_EQ(split("deepseek-coder", "a\nb,12"), (Words{"a", "\n", "b", ",", "1", "2"}));
  EXPECT_EQ(split("deepseek-llm", "ab 猫である  "), (Words{"ab", " ", "猫である", "  "}));
  EXPECT_EQ(split("deepseek-v3", "12345 _ab 猫が"), (Words{"123", "45", " _", "ab", " ", "猫が"}));
  EXPECT_EQ(split("gpt-4o", "HelloWorld DON'T"), (Words{"Hello", "World", " DON'T"}));
  EXPECT_EQ(split("tekken", "HelloWorld DON'T 12"), (Words{"Hello", "World", " DON", "'T", " ", "1", "2"}));
  EXPECT_EQ(split("superbpe", "1234567"), (Words{"1", "234", "567"}));
  EXPECT_EQ(split("falcon", "a`b 12345"), (Words{"a", "`", "b", " ", "123", "45"}));
}

TEST(PreTokenizer, EveryBytesAreInOneWord) {
  const std::string text =
      std::string("a\xFF\xFE b\xC3 \xE7\x8C\xAB\xED\xA0\x80", 12) + std::string(1, '\0') + "12345 's\r\n";
  for (const std::string& name : pre_tokenizer_names()) {
    std::string joined;
    for (std::string_view word : split(name, text)) {
      EXPECT_FALSE(word.empty()) << name;
      joined += word;
    }
    EXPECT_EQ(joined, text) << name;
  }
}

TEST(PreTokenizer, MalformedStretchesAreWords) {
  EXPECT_EQ(split("gpt-2",
                  "a\xFF\xFE"
                  "b"),
            (Words{"a", "\xFF\xFE", "b"}));
}

TEST(PreTokenizer, WhiteSpaceIsUnicodes) {
  EXPECT_EQ(split("gpt-2", "\u3000\u3000a"), (Words{"\u3000", "\u3000", "a"}));
  EXPECT_EQ(split("gpt-2", "\u180E\u180E!"), (Words{"\u180E\u180E!"})) << "U+180E is no space";
}

TEST(PreTokenizer, FoundByItsPatterns) {
  const auto name_of = [](const std::vector<std::string>& patterns, bool ignore_merges) {
    const PreTokenizerSpec* spec = find_pre_tokenizer_by_patterns(patterns, ignore_merges);
    return spec ? std::string(spec->names.front()) : "";
  };
  const std::string llama(find_pre_tokenizer("llama-bpe")->patterns[0]);
  EXPECT_EQ(name_of({llama}, true), "llama-bpe");
  EXPECT_EQ(name_of({llama}, false), "dbrx");
  EXPECT_EQ(name_of({"\\p{N}", std::string(find_pre_tokenizer("gpt-2")->patterns[0])}, false), "starcoder");
  EXPECT_EQ(name_of({"x"}, false), "");
  for (const PreTokenizerSpelling& spelling : pre_tokenizer_spellings()) {
    const std::vector<std::string> patterns(spelling.patterns.begin(), spelling.patterns.end());
    EXPECT_EQ(name_of(patterns, false), spelling.name);
  }
}

TEST(Regex, BadPatternsAreErrors) {
  EXPECT_THROW(Regex("(a"), Error);
  EXPECT_THROW(Regex("[\\p{NoSuch}]"), Error);
}

// A pattern that needs one stack frame per character still ends, in a match or in an Error.
TEST(Regex, DeepRecursionEnds) {
  const Regex regex("(?:(a)|b)*c");
  Regex::Scratch scratch;
  const std::string text(200'000, 'a');
  try {
    EXPECT_FALSE(regex.find(text, 0, scratch));
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kBadInput);
  }
}

}  // namespace
}  // namespace tsubu
