// The shared power-of-two scale of the OCP microscaling (MX) formats, by the three rules in use. For elements whose
// largest value is max_element = m · 2^emax with `mantissa_bits` bits of mantissa, and a block whose largest magnitude
// is a, the scale is 2^e with
//   kFloor  e = floor(log2 a) - emax: the specification's; elements above max_element / 2^emax of it are cut off
//   kEven   the same after rounding a to the elements' mantissa (ties up): cuts off less (compressed-tensors)
//   kCeil   e = ceil(log2(a / max_element)): cuts off nothing (ModelOpt, "rceil")
// What MXFP4 encodes with by default is none of them but the exponent with the least error (mxfp4.h).
// Source: OCP Microscaling Formats 1.0 §6.3; the named tools.
#pragma once

#include "codec/lanes.h"

namespace tsubu {

enum class MxScaleRule { kFloor, kEven, kCeil };

struct MxElement {
  float max_element;
  int emax;
  int mantissa_bits;
};
inline constexpr MxElement kE2m1Element = {6.0f, 2, 1};

// floor(log2 x) of a normal x > 0.
TSUBU_INLINE int exponent_of(float x) { return static_cast<int>(__builtin_bit_cast(uint32_t, x) >> 23 & 255) - 127; }

// e for a block of largest magnitude a > 0 (normal), unclamped.
TSUBU_INLINE int mx_exponent(MxScaleRule rule, const MxElement& element, float a) {
  if (rule == MxScaleRule::kCeil) {
    const int e = exponent_of(a) - element.emax;
    const float mantissa = __builtin_bit_cast(float, (__builtin_bit_cast(uint32_t, a) & 0x7fffffu) | 127u << 23);
    const float max_mantissa =
        __builtin_bit_cast(float, (__builtin_bit_cast(uint32_t, element.max_element) & 0x7fffffu) | 127u << 23);
    return mantissa > max_mantissa ? e + 1 : e;
  }
  if (rule == MxScaleRule::kFloor) return exponent_of(a) - element.emax;
  // Half a step of the mantissa in the float's own bits; a carry goes into the exponent, as it should.
  const uint32_t rounded = __builtin_bit_cast(uint32_t, a) + (1u << (22 - element.mantissa_bits));
  return static_cast<int>(rounded >> 23 & 255) - 127 - element.emax;
}

}  // namespace tsubu
