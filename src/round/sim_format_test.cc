#include "round/sim_format.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"

namespace tsubu {
namespace {

TEST(SimFormat, EveryNameIsItsOwnSpec) {
  for (const std::string_view spec : sim_format_examples()) {
    const SimFormat f = SimFormat::parse(spec);
    const SimFormat again = SimFormat::parse(f.name());
    EXPECT_EQ(again.name(), f.name()) << spec;
    EXPECT_EQ(again.levels, f.levels) << spec;
    EXPECT_EQ(again.total_bits(48, 1000), f.total_bits(48, 1000)) << spec;
  }
}

TEST(SimFormat, BitsAreExact) {
  struct Case {
    const char* spec;
    uint64_t bits;  // of 3 × 1000
  };
  constexpr uint64_t kCodes = 3000;
  for (const Case& c : std::initializer_list<Case>{
           {"int4:group=128", 4 * kCodes + 3 * 8 * 16},  // 7 whole groups and a short one in each row
           {"int4:group=128:asym", 4 * kCodes + 3 * 8 * (16 + 4)},
           {"int3:group=64:asym=f16", 3 * kCodes + 3 * 16 * 32},
           {"int2:group=2000", 2 * kCodes + 3 * 16},
           {"int8:channel", 8 * kCodes + 3 * 16},
           {"int8:tensor:scale=f32", 8 * kCodes + 32},
           {"fp8_e4m3:channel", 8 * kCodes + 3 * 32},
           {"fp8_e5m2:tensor", 8 * kCodes + 32},
           {"fp4:group=32", 4 * kCodes + 3 * 32 * 16},
           {"nf4:group=64", 4 * kCodes + 3 * 16 * 32},
           {"nf4:group=2:double", 4 * kCodes + 1500 * 8 + 6 * 32 + 32},
           {"mxfp4", 4 * kCodes + 3 * 32 * 8},
           {"nvfp4", 4 * kCodes + 3 * 63 * 8 + 32},
           {"power3:4:channel", 4 * kCodes + 3 * 16},
           {"kmeans4:row", 4 * kCodes + 3 * 16 * 16},
           {"kmeans3:group=128", 3 * kCodes + 3 * 8 * 8 * 16}})
    EXPECT_EQ(SimFormat::parse(c.spec).total_bits(3, 1000), c.bits) << c.spec;
  EXPECT_DOUBLE_EQ(SimFormat::parse("int4:group=128").bits_per_weight(7, 512), 4.125);
  EXPECT_DOUBLE_EQ(SimFormat::parse("mxfp4").bits_per_weight(7, 512), 4.25);
}

TEST(SimFormat, Levels) {
  const auto levels = [](const char* spec) { return SimFormat::parse(spec).levels; };
  EXPECT_EQ(levels("int3:channel"), (std::vector<float>{-4, -3, -2, -1, 0, 1, 2, 3}));
  EXPECT_EQ(levels("int2:channel:asym"), (std::vector<float>{0, 1, 2, 3}));
  EXPECT_EQ(levels("power3:3:channel"), (std::vector<float>{-27, -8, -1, 0, 1, 8, 27}));
  const std::vector<float> fp4 = {-6, -4, -3, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3, 4, 6};
  for (const char* spec : {"fp4", "mxfp4", "nvfp4"}) EXPECT_EQ(levels(spec), fp4) << spec;
  EXPECT_EQ(levels("power3:4:channel").back(), 343);
  const auto e4m3 = levels("fp8_e4m3:channel"), e5m2 = levels("fp8_e5m2:channel");
  EXPECT_EQ(e4m3.size(), 253u);  // 256 codes less two NaNs and the second zero
  EXPECT_EQ(e4m3.back(), 448);
  EXPECT_EQ(e4m3[e4m3.size() / 2 + 1], 0x1p-9f);
  EXPECT_EQ(e5m2.size(), 247u);  // less two infinities, six NaNs and the second zero
  EXPECT_EQ(e5m2.back(), 57344);
  EXPECT_EQ(e5m2[e5m2.size() / 2 + 1], 0x1p-16f);
  const auto nf4 = levels("nf4");
  EXPECT_EQ(nf4.size(), 16u);
  EXPECT_EQ(nf4.front(), -1);
  EXPECT_EQ(nf4[7], 0);
  EXPECT_EQ(nf4.back(), 1);
  for (const std::string_view spec : sim_format_examples()) {
    const auto all = SimFormat::parse(spec).levels;
    EXPECT_TRUE(std::is_sorted(all.begin(), all.end(), std::less_equal<>())) << spec;
    EXPECT_LE(all.size(), size_t{1} << SimFormat::parse(spec).code_bits) << spec;
  }
}

TEST(SimFormat, Refusals) {
  for (const char* spec : {"",
                           "int",
                           "int9",
                           "int1",
                           "int4:group=0",
                           "int4:group=1",
                           "int4:group=x",
                           "int4:double",
                           "nf4:asym",
                           "mxfp4:group=16",
                           "nvfp4:tensor",
                           "power3",
                           "power3:9",
                           "power0:4",
                           "powernan:4",
                           "kmeans9",
                           "kmeans4:tensor",
                           "kmeans4:scale=f16",
                           "int4:scale=e4m3",
                           "nf4:tensor:double",
                           "int4:",
                           "float"}) {
    try {
      SimFormat::parse(spec);
      ADD_FAILURE() << spec << " was taken";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::kUsage) << spec;
    }
  }
}

}  // namespace
}  // namespace tsubu
