// IEEE binary16 and bfloat16 as bit patterns: conversion to and from float, round to nearest even. Everything here is
// integer and exact float arithmetic, so it gives the same bits on every machine.
// Source: IEEE 754-2019 §3.6; bfloat16 is the upper half of binary32.
#pragma once

#include <cstdint>

// Always inlined: units compiled for one instruction set leave no copy of these that another unit could call.
#define TSUBU_HALF_INLINE inline __attribute__((always_inline))

namespace tsubu {

TSUBU_HALF_INLINE float bf16_to_f32(uint16_t h) { return __builtin_bit_cast(float, static_cast<uint32_t>(h) << 16); }

// NaN stays NaN (made quiet), everything else rounds to nearest, ties to even.
TSUBU_HALF_INLINE uint16_t f32_to_bf16(float f) {
  const uint32_t u = __builtin_bit_cast(uint32_t, f);
  if ((u & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((u >> 16) | 0x40);
  return static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1)) >> 16);
}

TSUBU_HALF_INLINE float f16_to_f32(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
  const uint32_t magnitude = h & 0x7fffu;
  if (magnitude >= 0x7c00u)  // infinity, NaN (made quiet, as hardware does)
    return __builtin_bit_cast(float, sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13) | (magnitude > 0x7c00u) << 22);
  if (magnitude >= 0x400u)  // normal: shift the exponent bias from 15 to 127
    return __builtin_bit_cast(float, sign | ((magnitude << 13) + 0x38000000u));
  const float subnormal = static_cast<float>(magnitude) * 0x1p-24f;
  return __builtin_bit_cast(float, sign | __builtin_bit_cast(uint32_t, subnormal));
}

// Overflow becomes infinity, NaN stays NaN, ties go to even, subnormals are kept.
TSUBU_HALF_INLINE uint16_t f32_to_f16(float f) {
  const uint32_t u = __builtin_bit_cast(uint32_t, f);
  const uint16_t sign = static_cast<uint16_t>((u >> 16) & 0x8000u);
  const uint32_t magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return sign | 0x7e00u | static_cast<uint16_t>((magnitude >> 13) & 0x3ffu);
  if (magnitude >= 0x477ff000u) return sign | 0x7c00u;  // >= 65520
  if (magnitude < 0x38800000u) {                        // below 2^-14: units of 2^-24, rounded by the addition
    const float shifted = __builtin_bit_cast(float, magnitude) + 0.5f;
    return sign | static_cast<uint16_t>(__builtin_bit_cast(uint32_t, shifted) - 0x3f000000u);
  }
  const uint32_t odd = (magnitude >> 13) & 1;
  return sign | static_cast<uint16_t>((magnitude - 0x38000000u + 0xfffu + odd) >> 13);
}

}  // namespace tsubu

#undef TSUBU_HALF_INLINE
