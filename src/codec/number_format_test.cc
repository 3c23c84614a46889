#include "codec/number_format.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "codec/small_floats.h"

namespace tsubu {
namespace {

size_t n_codes(const NumberFormat& f) { return size_t{1} << f.bits; }

// Codes that encode may give, by value.
std::vector<std::pair<float, uint8_t>> grid(const NumberFormat& f) {
  std::vector<std::pair<float, uint8_t>> values;
  for (size_t c = 0; c < n_codes(f); ++c) {
    const auto code = static_cast<uint8_t>(f.is_integer && c >= n_codes(f) / 2 ? c - n_codes(f) + 256 : c);
    const float v = f.decode(code);
    if (std::isfinite(v) && std::abs(v) <= f.largest()) values.push_back({v, code});
  }
  std::sort(values.begin(), values.end());
  return values;
}

TEST(NumberFormats, EveryCodeOfTheFloatsIsTheSpecifications) {
  const NumberFormat& e4m3 = *find_number_format("fp8");
  const NumberFormat& e5m2 = *find_number_format("fp8_e5m2");
  for (uint32_t code = 0; code < 256; ++code) {
    const float a = e4m3.decode(static_cast<uint8_t>(code)), b = e4m3_to_f32(code);
    EXPECT_TRUE(a == b || (std::isnan(a) && std::isnan(b))) << code;
    // E5M2 is the upper byte of an f16.
    const float c = e5m2.decode(static_cast<uint8_t>(code)), d = f16_to_f32(static_cast<uint16_t>(code << 8));
    EXPECT_TRUE(c == d || (std::isnan(c) && std::isnan(d))) << code;
  }
  const NumberFormat& e2m1 = *find_number_format("fp4");
  for (uint32_t code = 0; code < 16; ++code) EXPECT_EQ(e2m1.decode(static_cast<uint8_t>(code)), e2m1_to_f32(code));
  const auto last = [](const char* name, int code) {
    return find_number_format(name)->decode(static_cast<uint8_t>(code));
  };
  EXPECT_EQ(last("fp6_e3m2", 0x1f), 28.0f);
  EXPECT_EQ(last("fp6_e3m2", 0x01), 0.0625f);
  EXPECT_EQ(last("fp6_e2m3", 0x1f), 7.5f);
  EXPECT_EQ(last("fp6_e2m3", 0x01), 0.125f);
  EXPECT_EQ(last("fp6_e2m3", 0x3f), -7.5f);
  EXPECT_EQ(last("int4", 0x0f), -1.0f);
  EXPECT_EQ(last("int4", 0x07), 7.0f);
  EXPECT_EQ(last("int2", 0x01), 1.0f);
}

TEST(NumberFormats, EveryValueEncodesToItself) {
  for (const NumberFormat& f : number_formats())
    for (const auto& [value, code] : grid(f)) {
      if (f.is_integer && value < -f.largest()) continue;
      EXPECT_EQ(f.decode(f.encode(value)), value) << f.name << " " << int{code};
      if (value != 0) {
        EXPECT_EQ(f.encode(value), code) << f.name << " " << value;
      }
      EXPECT_TRUE(std::signbit(f.decode(f.encode(value))) == (value < 0)) << f.name << ": zero is +0";
    }
}

// Between two neighbors: the nearer one, and the one with an even code at their middle.
TEST(NumberFormats, RoundToTheNearestWithTiesToEven) {
  for (const NumberFormat& f : number_formats()) {
    const auto values = grid(f);
    for (size_t i = 0; i + 1 < values.size(); ++i) {
      const auto [low, low_code] = values[i];
      const auto [high, high_code] = values[i + 1];
      if (low == high) continue;  // the two zeros
      const float middle = low + (high - low) / 2;
      EXPECT_EQ(f.decode(f.encode(std::nextafter(middle, low))), low) << f.name;
      EXPECT_EQ(f.decode(f.encode(std::nextafter(middle, high))), high) << f.name;
      EXPECT_EQ(f.decode(f.encode(middle)), low_code % 2 == 0 ? low : high)
          << f.name << " between " << low << " and " << high;
    }
    EXPECT_EQ(f.decode(f.encode(1e30f)), f.largest()) << f.name;
    EXPECT_EQ(f.decode(f.encode(-1e30f)), -f.largest()) << f.name;
    EXPECT_EQ(values.back().first, f.largest()) << f.name;
    EXPECT_EQ(values.front().first, -f.largest()) << f.name;
  }
}

TEST(NumberFormats, TablesAndNames) {
  for (const NumberFormat& f : number_formats()) {
    EXPECT_EQ(find_number_format(f.name), &f);
    for (size_t code = 0; code < 256; ++code) {
      const float a = f.values()[code], b = f.decode(static_cast<uint8_t>(code));
      EXPECT_TRUE(a == b || (std::isnan(a) && std::isnan(b)));
    }
  }
  EXPECT_EQ(find_number_format("int9"), nullptr);
  EXPECT_EQ(find_number_format(""), nullptr);
}

}  // namespace
}  // namespace tsubu
