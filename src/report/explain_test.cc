#include "report/explain.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"
#include "codec/type_info.h"
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
