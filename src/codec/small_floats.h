// FP4 E2M1, and the 8-bit scale formats E8M0 and E4M3, as numbers.
//   E2M1: sign, 2 exponent bits (bias 1), 1 mantissa bit: ±{0, 0.5, 1, 1.5, 2, 3, 4, 6}.
//   E8M0: 2^(code - 127), 255 is NaN.
//   E4M3: sign, 4 exponent bits (bias 7), 3 mantissa bits, subnormals, no infinity, 0x7f and 0xff are NaN; largest 448.
// Source: OCP Microscaling Formats 1.0 §5.3, §5.4; OCP 8-bit Floating Point Specification 1.0.
#pragma once

#include <cstdint>

#include "codec/lanes.h"

namespace tsubu {

// 2 · E2M1(code), with +0 for code 8: what a half scale multiplies in ggml's FP4 types.
extern const float kE2m1Doubled[16];

TSUBU_INLINE float e2m1_to_f32(uint32_t code) {
  const uint32_t magnitude = code & 7;
  const uint32_t sign = (code & 8) << 28;
  if (magnitude < 2) return __builtin_bit_cast(float, sign | magnitude * 0x3f000000u);  // 0, 0.5
  return __builtin_bit_cast(float, sign | (((magnitude >> 1) + 126) << 23) | (magnitude & 1) << 22);
}

TSUBU_INLINE float e8m0_to_f32(uint32_t code) {
  if (code == 255) return __builtin_nanf("");
  return __builtin_bit_cast(float, code == 0 ? 0x00400000u : code << 23);  // 2^-127 is subnormal
}

TSUBU_INLINE float e4m3_to_f32(uint32_t code) {
  const uint32_t magnitude = code & 0x7f;
  const uint32_t sign = (code & 0x80) << 24;
  if (magnitude == 0x7f) return __builtin_nanf("");
  const float value = magnitude < 8 ? static_cast<float>(magnitude) * 0x1p-9f
                                    : __builtin_bit_cast(float, (magnitude << 20) + (120u << 23));
  return __builtin_bit_cast(float, __builtin_bit_cast(uint32_t, value) | sign);
}

// Half of E8M0; code 255 gives 2^127, as ggml does.
TSUBU_INLINE float e8m0_half(uint32_t code) {
  return __builtin_bit_cast(float, code < 2 ? 0x00200000u << code : (code - 1) << 23);
}

// Half of E4M3 without its sign; code 0x7f gives 0 and 0xff 240, as ggml does.
TSUBU_INLINE float ue4m3_half(uint32_t code) {
  const uint32_t magnitude = code & 0x7f;
  if (code == 0x7f) return 0.0f;
  return magnitude < 8 ? static_cast<float>(magnitude) * 0x1p-10f
                       : __builtin_bit_cast(float, (magnitude << 20) + (119u << 23));
}

}  // namespace tsubu
