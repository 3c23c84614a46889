// What coordinate descent on scalar grids and on lattices has in common. Included by units of generic/ only.
#pragma once

#include "kernel/generic/vector_math.h"

namespace tsubu::TSUBU_ISA {

inline constexpr float kTiny = 0x1p-120f;

// g -= change · H over the span, for a change of columns [first, first + n).
TSUBU_INLINE void apply_change(float* g, int n_cols, const float* h, size_t ldh, int first, int n, const F* change) {
  for (int k = 0; k < n_cols; k += 4) {
    F a = Lanes::load(g + 16 * k), b = Lanes::load(g + 16 * (k + 1)), c = Lanes::load(g + 16 * (k + 2)),
      d = Lanes::load(g + 16 * (k + 3));
    for (int i = 0; i < n; ++i) {
      const float* row = h + static_cast<size_t>(first + i) * ldh + k;
      const F minus = Lanes::neg(change[i]);
      a = Lanes::fma(minus, Lanes::set1(row[0]), a);
      b = Lanes::fma(minus, Lanes::set1(row[1]), b);
      c = Lanes::fma(minus, Lanes::set1(row[2]), c);
      d = Lanes::fma(minus, Lanes::set1(row[3]), d);
    }
    Lanes::store(g + 16 * k, a);
    Lanes::store(g + 16 * (k + 1), b);
    Lanes::store(g + 16 * (k + 2), c);
    Lanes::store(g + 16 * (k + 3), d);
  }
}

TSUBU_INLINE F to_half(F x) {
  const F inside = Lanes::max(Lanes::min(x, Lanes::set1(65504.0f)), Lanes::set1(-65504.0f));
  uint16_t bits[kLanes];
  Lanes::store_f16(bits, inside);
  return Lanes::load_f16(bits);
}

}  // namespace tsubu::TSUBU_ISA
