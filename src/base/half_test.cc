// Half-precision conversions, exhaustively against the compiler's _Float16, and around every rounding boundary.
#include "base/half.h"

#include <gtest/gtest.h>

#include <cmath>

namespace tsubu {
namespace {

uint16_t reference_f16(float f) { return std::bit_cast<uint16_t>(static_cast<_Float16>(f)); }
bool is_nan16(uint16_t h) { return (h & 0x7fff) > 0x7c00; }

TEST(Half, EveryF16CodeDecodesAndEncodesBack) {
  for (uint32_t code = 0; code < 0x10000; ++code) {
    const auto h = static_cast<uint16_t>(code);
    const float f = f16_to_f32(h);
    if (is_nan16(h)) {
      ASSERT_TRUE(std::isnan(f)) << code;
      ASSERT_TRUE(is_nan16(f32_to_f16(f))) << code;
      continue;
    }
    const float expected = static_cast<float>(std::bit_cast<_Float16>(h));
    ASSERT_EQ(std::bit_cast<uint32_t>(f), std::bit_cast<uint32_t>(expected)) << code;
    ASSERT_EQ(f32_to_f16(f), h) << code;
  }
}

// For each pair of neighboring codes: the midpoint (a tie) and the floats on either side of it.
TEST(Half, F16RoundsToNearestEven) {
  for (uint32_t code = 0; code < 0x7c00; ++code) {
    const float low = f16_to_f32(static_cast<uint16_t>(code));
    const float high = code == 0x7bff ? 65536.0f : f16_to_f32(static_cast<uint16_t>(code + 1));
    const float middle = low + (high - low) / 2;  // exact: half codes have 13 bits to spare
    for (const float f : {std::nextafter(middle, 0.0f), middle, std::nextafter(middle, 1e9f)}) {
      ASSERT_EQ(f32_to_f16(f), reference_f16(f)) << f;
      ASSERT_EQ(f32_to_f16(-f), reference_f16(-f)) << -f;
    }
  }
  EXPECT_EQ(f32_to_f16(1e30f), 0x7c00);
  EXPECT_EQ(f32_to_f16(std::numeric_limits<float>::denorm_min()), 0);
}

TEST(Half, EveryBf16CodeDecodesAndEncodesBack) {
  for (uint32_t code = 0; code < 0x10000; ++code) {
    const auto h = static_cast<uint16_t>(code);
    const float f = bf16_to_f32(h);
    ASSERT_EQ(std::bit_cast<uint32_t>(f), code << 16);
    if (std::isnan(f))
      ASSERT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(f)))) << code;
    else
      ASSERT_EQ(f32_to_bf16(f), h) << code;
  }
}

TEST(Half, Bf16RoundsToNearestEven) {
  for (uint32_t code = 0; code < 0x7f80; ++code) {
    const uint32_t bits = code << 16;
    EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(bits + 0x7fff)), code);
    EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(bits + 0x8000)), code + (code & 1));
    EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(bits + 0x8001)), code + 1);
  }
}

}  // namespace
}  // namespace tsubu
