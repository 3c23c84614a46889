// What the kernels share: partial vectors, sums over rows in the fixed order, and exp. Included by the units of
// generic/ only; everything is inlined into the ISA's namespace.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernel/lanes.h"

namespace tsubu::TSUBU_ISA {

using F = Lanes::F;
using I = Lanes::I;

inline constexpr size_t kStep = kLanes;

// The first n < 16 floats at p, the other lanes `fill`.
TSUBU_INLINE F load_part(const float* p, size_t n, float fill) {
  float buffer[kLanes];
  for (size_t i = 0; i < kStep; ++i) buffer[i] = i < n ? p[i] : fill;
  return Lanes::load(buffer);
}

TSUBU_INLINE void store_part(float* p, F x, size_t n) {
  float buffer[kLanes];
  Lanes::store(buffer, x);
  for (size_t i = 0; i < n; ++i) p[i] = buffer[i];
}

TSUBU_INLINE float first_lane(F x) {
  float buffer[kLanes];
  Lanes::store(buffer, x);
  return buffer[0];
}

// y[i] = f(x[i]).
template <class Fn>
TSUBU_INLINE void map(const float* x, float* y, size_t n, Fn f) {
  size_t i = 0;
  for (; i + kStep <= n; i += kStep) Lanes::store(y + i, f(Lanes::load(x + i)));
  if (i < n) store_part(y + i, f(load_part(x + i, n - i, 0.0f)), n - i);
}

// y[i] = f(a[i], b[i]).
template <class Fn>
TSUBU_INLINE void map2(const float* a, const float* b, float* y, size_t n, Fn f) {
  size_t i = 0;
  for (; i + kStep <= n; i += kStep) Lanes::store(y + i, f(Lanes::load(a + i), Lanes::load(b + i)));
  if (i < n) store_part(y + i, f(load_part(a + i, n - i, 0.0f), load_part(b + i, n - i, 0.0f)), n - i);
}

// acc = f(acc, x) over all x, lane i % 16 of acc seeing x[i]; missing lanes of the last step see `fill`.
template <class Fn>
TSUBU_INLINE F fold(const float* x, size_t n, F acc, float fill, Fn f) {
  size_t i = 0;
  for (; i + kStep <= n; i += kStep) acc = f(acc, Lanes::load(x + i));
  if (i < n) acc = f(acc, load_part(x + i, n - i, fill));
  return acc;
}

// out[0..4) = hsum of each. The same tree as Lanes::hsum; some ISAs do four at a time.
template <class L>
TSUBU_INLINE void hsum4(float* out, typename L::F a, typename L::F b, typename L::F c, typename L::F d) {
  if constexpr (requires { L::hsum4(out, a, b, c, d); }) {
    L::hsum4(out, a, b, c, d);
  } else {
    out[0] = L::hsum(a);
    out[1] = L::hsum(b);
    out[2] = L::hsum(c);
    out[3] = L::hsum(d);
  }
}

// e^x: x = n ln2 + r with |r| ≤ ln2/2, a degree-6 minimax polynomial in r (relative error 2^-28.3), scaled by 2^n in
// two factors so that subnormal results and overflow to infinity come out right. Error < 1.5 ulp for normal results,
// and at most one more half unit of the last place for subnormal ones. NaN stays NaN. ln2 is split so that n times its
// upper part (9 trailing zero bits) is exact.
TSUBU_INLINE F exp(F x) {
  x = Lanes::min(Lanes::set1(100.0f), x);
  x = Lanes::max(Lanes::set1(-110.0f), x);
  const F magic = Lanes::set1(12582912.0f);  // 1.5·2^23: adding it rounds to an integer, held in the low mantissa bits
  const F shifted = Lanes::fma(x, Lanes::set1(0x1.715476p+0f), magic);
  const F n = Lanes::sub(shifted, magic);
  F r = Lanes::fma(n, Lanes::set1(-0x1.62e4p-1f), x);
  r = Lanes::fma(n, Lanes::set1(-0x1.7f7d1cp-20f), r);
  F p = Lanes::set1(0x1.6a23dp-10f);
  p = Lanes::fma(p, r, Lanes::set1(0x1.123a2p-7f));
  p = Lanes::fma(p, r, Lanes::set1(0x1.5558f2p-5f));
  p = Lanes::fma(p, r, Lanes::set1(0x1.555492p-3f));
  p = Lanes::fma(p, r, Lanes::set1(0x1.fffffcp-2f));
  p = Lanes::fma(p, r, Lanes::set1(1.0f));
  p = Lanes::fma(p, r, Lanes::set1(1.0f));
  const I count = Lanes::sub(Lanes::bits(shifted), Lanes::set1_i(0x4b400000));
  const I half = Lanes::shift_right<1>(Lanes::add(count, Lanes::set1_i(256)));  // logical shift: keep it positive
  const I first = Lanes::sub(half, Lanes::set1_i(128));
  const I second = Lanes::sub(count, first);
  const I bias = Lanes::set1_i(127);
  const F scale1 = Lanes::from_bits(Lanes::shift_left<23>(Lanes::add(first, bias)));
  const F scale2 = Lanes::from_bits(Lanes::shift_left<23>(Lanes::add(second, bias)));
  return Lanes::mul(Lanes::mul(p, scale1), scale2);
}

}  // namespace tsubu::TSUBU_ISA
