#include "codec/small_floats.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <vector>

#include "codec/codecs.h"

namespace tsubu {
namespace {

uint32_t bits(float x) { return std::bit_cast<uint32_t>(x); }

TEST(SmallFloats, E2m1HasItsSixteenValues) {
  const std::array<float, 16> expected = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                          -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};
  for (uint32_t code = 0; code < 16; ++code) {
    EXPECT_EQ(bits(e2m1_to_f32(code)), bits(expected[code])) << code;
    EXPECT_EQ(kE2m1Doubled[code], 2 * expected[code]) << code;
  }
  EXPECT_FALSE(std::signbit(kE2m1Doubled[8]));
}

TEST(SmallFloats, E8m0IsEveryPowerOfTwo) {
  for (int code = 0; code < 255; ++code) {
    EXPECT_EQ(e8m0_to_f32(static_cast<uint32_t>(code)), std::ldexp(1.0f, code - 127)) << code;
    EXPECT_EQ(e8m0_half(static_cast<uint32_t>(code)), std::ldexp(1.0f, code - 128)) << code;
  }
  EXPECT_EQ(e8m0_to_f32(127), 1.0f);
  EXPECT_TRUE(std::isnan(e8m0_to_f32(255)));
  EXPECT_EQ(e8m0_half(255), 0x1p127f);
}

TEST(SmallFloats, E4m3FollowsItsDefinition) {
  for (int code = 0; code < 256; ++code) {
    const int exponent = code >> 3 & 15;
    const int mantissa = code & 7;
    const float value = e4m3_to_f32(static_cast<uint32_t>(code));
    if (exponent == 15 && mantissa == 7) {
      EXPECT_TRUE(std::isnan(value)) << code;
      continue;
    }
    const float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                                          : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
    EXPECT_EQ(bits(value), bits(code < 128 ? magnitude : -magnitude)) << code;
    EXPECT_EQ(ue4m3_half(static_cast<uint32_t>(code)), magnitude / 2) << code;
  }
  EXPECT_EQ(e4m3_to_f32(0x7e), 448.0f);
  EXPECT_EQ(ue4m3_half(0x7f), 0.0f);
  EXPECT_EQ(ue4m3_half(0xff), 240.0f);
}

// [0.5, -1, 6, -0] are the codes 1, 10, 7, 8; as the field's checkpoints pack them (even element low): bytes a1 87.
TEST(SmallFloats, CheckpointNibbleOrder) {
  const std::array<uint8_t, 2> packed = {0xa1, 0x87};
  std::vector<float> values;
  for (const uint8_t byte : packed) {
    values.push_back(e2m1_to_f32(byte & 15));
    values.push_back(e2m1_to_f32(byte >> 4));
  }
  EXPECT_EQ(values, (std::vector<float>{0.5f, -1.0f, 6.0f, -0.0f}));
  EXPECT_TRUE(std::signbit(values[3]));
}

// In GGUF the low nibbles of a group come first: of 32 in MXFP4, of 16 in NVFP4.
TEST(Mxfp4, EveryNibbleInEveryPlace) {
  for (uint32_t code = 0; code < 16; ++code) {
    for (int place = 0; place < 32; ++place) {
      MXFP4::Block block = {.e = 127, .qs = {}};
      block.qs[place % 16] = static_cast<uint8_t>(code << (place < 16 ? 0 : 4));
      float values[32];
      MXFP4::decode<PortableLanes>(block, values);
      for (int i = 0; i < 32; ++i) EXPECT_EQ(values[i], i == place ? e2m1_to_f32(code) : 0.0f) << code << " " << place;
    }
  }
}

TEST(Mxfp4, EveryScale) {
  for (int e = 0; e < 255; ++e) {
    MXFP4::Block block = {.e = static_cast<uint8_t>(e), .qs = {}};
    block.qs[0] = 0x92;  // 1 and -0.5
    float values[32];
    MXFP4::decode<PortableLanes>(block, values);
    EXPECT_EQ(values[0], std::ldexp(1.0f, e - 127)) << e;
    EXPECT_EQ(values[16], -std::ldexp(1.0f, e - 128)) << e;
  }
}

TEST(Nvfp4, EveryNibbleInEveryPlace) {
  for (uint32_t code = 0; code < 16; ++code) {
    for (int place = 0; place < 64; ++place) {
      NVFP4::Block block = {.d = {0x38, 0x40, 0x48, 0x50}, .qs = {}};  // 1, 2, 4, 8
      const int group = place / 16;
      block.qs[8 * group + place % 8] = static_cast<uint8_t>(code << (place % 16 < 8 ? 0 : 4));
      float values[64];
      NVFP4::decode<PortableLanes>(block, values);
      const float expected = e2m1_to_f32(code) * static_cast<float>(1 << group);
      for (int i = 0; i < 64; ++i) EXPECT_EQ(values[i], i == place ? expected : 0.0f) << code << " " << place;
    }
  }
}

TEST(Nvfp4, EveryScale) {
  for (int code = 0; code < 127; ++code) {
    NVFP4::Block block = {.d = {static_cast<uint8_t>(code), 0, 0, 0}, .qs = {}};
    block.qs[0] = 0x07;
    float values[64];
    NVFP4::decode<PortableLanes>(block, values);
    EXPECT_EQ(values[0], 6 * e4m3_to_f32(static_cast<uint32_t>(code))) << code;
  }
}

}  // namespace
}  // namespace tsubu
