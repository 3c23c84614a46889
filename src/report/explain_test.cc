#include "report/explain.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <regex>

#include "base/error.h"
#include "codec/type_info.h"
#include "evaluate/certify.h"
#include "round/methods.h"

namespace tsubu {
namespace {

TEST(Explain, EveryThingOfTheListsInBothLanguages) {
  const ExampleRow row = built_in_row();
  EXPECT_EQ(row.values.size(), 256u);
  std::vector<std::string_view> names;
  for (const TypeInfo& t : types()) names.push_back(t.name);
  for (const RoundingMethod& m : rounding_methods()) names.push_back(m.name);
  for (const MetricWords& m : metric_words()) names.push_back(m.name);
  for (const MetricWords& m : term_words()) names.push_back(m.name);
  for (const MetricWords& m : gate_words()) names.push_back(m.name);
  for (Language language : {Language::kEnglish, Language::kJapanese}) {
    const std::string overview = explain_overview(language);
    for (std::string_view name : names) {
      EXPECT_GT(explain(name, row, language).size(), 60u) << name;
      EXPECT_NE(overview.find(name), std::string::npos) << name;
    }
  }
}

TEST(Explain, EveryMethodHasItsAdvice) {
  for (const RoundingMethod& m : rounding_methods())
    EXPECT_TRUE(std::any_of(method_words().begin(), method_words().end(), [&](const MethodWords& w) {
      return w.name == m.name;
    })) << m.name;
}

TEST(Explain, EveryLimitOfCertifyIsExplained) {
  const auto is_among = [](std::span<const MetricWords> words, std::string_view name) {
    return std::any_of(words.begin(), words.end(), [&](const MetricWords& w) { return w.name == name; });
  };
  for (const GateKind& k : gate_kinds()) EXPECT_TRUE(is_among(gate_words(), k.name) || is_among(metric_words(), k.name)) << k.name;
  for (const MetricWords& w : gate_words())
    EXPECT_TRUE(std::any_of(gate_kinds().begin(), gate_kinds().end(), [&](const GateKind& k) { return k.name == w.name; })) << w.name;
}

TEST(Explain, InJapaneseNothingIsLeftInEnglish) {
  const std::regex sentence("[A-Za-z]{3,} [A-Za-z]{2,} [A-Za-z]{2,}");
  for (const TypeInfo& t : types()) {
    EXPECT_FALSE(japanese_of_type(t.name).empty()) << t.name;
    EXPECT_FALSE(std::regex_search(describe_type(t, Language::kJapanese), sentence)) << describe_type(t, Language::kJapanese);
  }
  for (const MethodWords& m : method_words())
    for (const std::string_view words : {m.japanese, m.japanese_summary, m.japanese_needs, m.japanese_formats}) EXPECT_FALSE(words.empty()) << m.name;
}

TEST(Explain, ANameThatIsAMethodAndAMeasureIsBoth) {
  const std::string text = explain("power", built_in_row(), Language::kEnglish);
  EXPECT_NE(text.find("Evenly spaced after a root"), std::string::npos);
  EXPECT_NE(text.find("The smallest change that a run"), std::string::npos);
}

TEST(Explain, TypesOfDataAreNotRecommendedForWeights) {
  for (const char* name : {"I32", "F64", "Q8_K"}) {
    const std::string text = explain(name, built_in_row(), Language::kEnglish);
    EXPECT_NE(text.find("Not for weights"), std::string::npos) << text;
    EXPECT_EQ(text.find("When to take it"), std::string::npos) << text;
  }
  EXPECT_NE(explain("MXFP4", built_in_row(), Language::kEnglish).find("a 4-bit float"), std::string::npos);
  EXPECT_EQ(explain("F32", built_in_row(), Language::kEnglish).find("1 weights"), std::string::npos);
}

// The example's arithmetic is what the codec stores: 32 weights at scale d, code − 8.
TEST(Explain, TheExampleIsRealArithmetic) {
  ExampleRow row{"test", std::vector<float>(32, 0.0f)};
  row.values[0] = -8;
  row.values[1] = 3;
  const std::string text = explain("Q4_0", row, Language::kEnglish);
  EXPECT_NE(text.find("-8.000000"), std::string::npos) << text;
  EXPECT_NE(text.find("3.000000"), std::string::npos) << text;
  EXPECT_NE(text.find("relative error over 32 weights of the row: 0 %"), std::string::npos) << text;
  EXPECT_NE(text.find("4.5 bits per weight"), std::string::npos) << text;
}

TEST(Explain, UnknownNamesGetTheNearest) {
  try {
    explain("Q4_KK", built_in_row(), Language::kEnglish);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kUsage);
    EXPECT_NE(std::string(e.what()).find("Q4_K"), std::string::npos);
  }
}

}  // namespace
}  // namespace tsubu
