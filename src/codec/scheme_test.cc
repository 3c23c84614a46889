#include "codec/scheme.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace tsubu {
namespace {

TEST(Schemes, ReadWhatTheyWrite) {
  for (const NumberFormat& f : number_formats()) {
    for (const SchemeUse use : {SchemeUse::kWeights, SchemeUse::kActivations, SchemeUse::kCache}) {
      for (const char* g : {"unit", "tensor", "channel", "token", "group=32", "block=7"}) {
        const std::string text = std::string(f.name) + ":" + g;
        bool allowed = false;
        for (const GranularityInfo& info : granularities()) {
          if (info.name.substr(0, 4) != std::string_view(g).substr(0, 4)) continue;
          allowed = use == SchemeUse::kWeights       ? info.for_weights
                    : use == SchemeUse::kActivations ? info.for_activations
                                                     : info.for_cache;
        }
        allowed = allowed && !(f.is_integer && std::string_view(g) == "unit");
        if (allowed)
          EXPECT_EQ(parse_scheme(text, use).name(), text);
        else
          EXPECT_THROW(parse_scheme(text, use), Error) << text;
      }
    }
  }
  EXPECT_EQ(parse_scheme("int8", SchemeUse::kWeights).name(), "int8:channel");
  EXPECT_EQ(parse_scheme("fp8", SchemeUse::kActivations).name(), "fp8_e4m3:token");
  EXPECT_EQ(parse_scheme("int4", SchemeUse::kCache).name(), "int4:token");
}

TEST(Schemes, SayWhatIsWrong) {
  const auto message = [](std::string_view text, SchemeUse use) -> std::string {
    try {
      parse_scheme(text, use);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::kUsage);
      return e.what();
    }
    return "";
  };
  EXPECT_NE(message("int9:channel", SchemeUse::kWeights).find("fp8_e4m3"), std::string::npos);
  EXPECT_NE(message("", SchemeUse::kWeights).find("unknown number format"), std::string::npos);
  EXPECT_NE(message("int8:token", SchemeUse::kWeights).find("unit, tensor, channel, group=N, block=N"),
            std::string::npos);
  EXPECT_NE(message("int8:channel", SchemeUse::kActivations).find("tensor, token"), std::string::npos);
  for (const char* bad :
       {"int8:group", "int8:group=", "int8:group=0", "int8:group=-4", "int8:group=12x", "int8:group=99999999999"})
    EXPECT_NE(message(bad, SchemeUse::kWeights).find("needs a size"), std::string::npos) << bad;
  EXPECT_NE(message("int8:tensor=3", SchemeUse::kWeights).find("takes no size"), std::string::npos);
  EXPECT_NE(message("int8:unit", SchemeUse::kWeights).find("need a scale"), std::string::npos);
}

TEST(Schemes, CountTheirScales) {
  const auto of = [](const char* text) { return parse_scheme(text, SchemeUse::kWeights); };
  EXPECT_EQ(of("fp8:unit").n_scales(5, 7), 0u);
  EXPECT_EQ(of("int8:tensor").n_scales(5, 7), 1u);
  EXPECT_EQ(of("int8:channel").n_scales(5, 7), 5u);
  EXPECT_EQ(of("int8:group=3").n_scales(5, 7), 15u);
  EXPECT_EQ(of("int8:group=100").n_scales(5, 7), 5u);
  EXPECT_EQ(of("int8:block=3").n_scales(5, 7), 6u);
  EXPECT_EQ(of("int8:group=3").columns_per_scale(7), 3u);
  EXPECT_EQ(of("int8:group=100").columns_per_scale(7), 7u);
  EXPECT_DOUBLE_EQ(of("int4:group=128").bits_per_value(1, 1024), 4.25);
  EXPECT_EQ(of("int8:channel").scale_of(254), 2.0f);
  EXPECT_EQ(of("fp8:unit").scale_of(254), 1.0f);
}

TEST(Schemes, PresetsAreSchemes) {
  for (const SchemePreset& p : scheme_presets()) {
    EXPECT_EQ(&scheme_preset(p.name), &p);
    for (const auto& [text, use] :
         {std::pair(p.weights, SchemeUse::kWeights), {p.activations, SchemeUse::kActivations}}) {
      if (text.empty()) continue;
      EXPECT_EQ(parse_scheme(text, use).name(), text);
    }
  }
  EXPECT_EQ(scheme_preset("w8a8").name, "W8A8");
  EXPECT_THROW(scheme_preset("W9A9"), Error);
}

}  // namespace
}  // namespace tsubu
