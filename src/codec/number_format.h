// Number formats of at most 8 bits for simulated quantization of weights, activations and caches: a value is
// scale · value(code), the scale being the scheme's (codec/scheme.h).
//   intB: two's complement, codes -(2^(B-1) - 1) … 2^(B-1) - 1, so that the grid is symmetric.
//   fpB_eXmY: sign, X exponent bits, Y mantissa bits, subnormals. Source: OCP 8-bit Floating Point Specification 1.0
//   (E4M3 has no infinity and one NaN magnitude, E5M2 is IEEE-like), OCP Microscaling Formats 1.0 §5.3 (FP6 and FP4:
//   neither infinity nor NaN).
// Rounding is to nearest, ties to even, saturating at ±largest; zero is always +0.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace tsubu {

// How a value is rounded: to a multiple of ulp = step · max(2^floor(log2 |x|), lowest_power), within ±largest.
struct RoundingRule {
  float largest;       // finite magnitude
  float lowest_power;  // of two: below it the step does not shrink (integers: above every value, so it never grows)
  float step;          // 2^-mantissa bits
};

struct NumberFormat {
  std::string_view name;  // "int8", "fp8_e4m3"
  uint32_t bits;          // of a code, sign included
  bool is_integer;
  int mantissa_bits, bias;  // floats
  RoundingRule rule;
  std::string_view summary;

  float largest() const { return rule.largest; }
  // Nearest code of a finite x that is already divided by its scale, in the low `bits` bits (an integer's sign fills
  // the byte: its code is an int8_t).
  uint8_t encode(float x) const;
  // NaN and infinity where the format has them; encode gives no such code.
  float decode(uint8_t code) const;
  // decode of every byte.
  std::span<const float, 256> values() const;
};

// Every format, integers first.
std::span<const NumberFormat> number_formats();
// nullptr when there is none. "fp8" is fp8_e4m3, "fp4" fp4_e2m1.
const NumberFormat* find_number_format(std::string_view name);

}  // namespace tsubu
