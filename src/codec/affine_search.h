// Search for x ≈ s · code + m with codes 0 … high: sixteen candidate grids at a time, one a lane (see
// symmetric_search.h).
#pragma once

#include "codec/weights.h"

namespace tsubu {

struct AffineScale {
  float scale;
  float min;
};

template <class L>
struct AffineFit {
  typename L::F scale;  // least-squares scale and offset of each candidate's codes
  typename L::F offset;
  typename L::F gain;  // how much of Σ w v² they explain
};

// v[i] are the values above some base. Codes are round(v · inverse - shift); the offset (from the base) is kept ≤
// highest. shifted: whether shift may be anything but zero.
template <class L, int n, bool shifted>
TSUBU_INLINE AffineFit<L> fit_affine(const float* v, const float* w, float sum_w, float sum_wv, typename L::F inverse,
                                     typename L::F shift, float high, float highest_offset) {
  auto l1 = L::zero();
  auto l2 = L::zero();
  auto vl = L::zero();
  for (int i = 0; i < n; ++i) {
    const auto value = L::set1(v[i]);
    const auto steps = L::mul(value, inverse);
    const auto code =
        shifted ? round_within<L>(L::sub(steps, shift), 0.0f, high) : L::round(L::min(steps, L::set1(high)));
    const auto weighted = L::mul(L::set1(w[i]), code);
    l1 = L::add(l1, weighted);
    l2 = L::add(l2, L::mul(weighted, code));
    vl = L::add(vl, L::mul(weighted, value));
  }
  const auto tiny = L::set1(0x1p-60f);
  const auto sw = L::set1(sum_w);
  const auto swv = L::set1(sum_wv);
  // Normal equations: scale·l2 + offset·l1 = vl, scale·l1 + offset·sw = swv. A determinant of zero (all codes equal)
  // gives an offset of zero.
  const auto det = L::sub(L::mul(sw, l2), L::mul(l1, l1));
  const auto numerator = L::sub(L::mul(swv, l2), L::mul(vl, l1));
  const auto solvable = L::gt(det, L::mul(L::mul(sw, l2), L::set1(0x1p-18f)));
  const auto free = L::select(solvable, L::div(numerator, L::max(det, tiny)), L::zero());
  const auto offset = L::min(free, L::set1(highest_offset));
  const auto rest = L::sub(vl, L::mul(offset, l1));
  const auto scale = L::max(L::div(rest, L::max(l2, tiny)), L::zero());
  // Σ w v² - Σ w (v - scale·l - offset)², with scale optimal for the offset.
  const auto twice = L::add(swv, swv);
  const auto gain = L::add(L::mul(scale, rest), L::mul(offset, L::sub(twice, L::mul(offset, sw))));
  return {scale, offset, gain};
}

// First candidates: steps between the smallest and the largest value, less the highest code.
struct AffineGrid {
  float steps[kLanes];
};
inline constexpr AffineGrid kAffineGrid = {
    {-1.5f, -1.2f, -1.0f, -0.8f, -0.6f, -0.4f, -0.2f, 0.0f, 0.2f, 0.4f, 0.6f, 0.8f, 1.0f, 1.3f, 1.6f, 2.0f}};

// The best scale and minimum found for n values: candidate grids, each refined n_refine times (its codes, the best
// scale and minimum for them, the codes of those …). min_below_zero: the minimum may not be positive, as in the K
// formats.
template <class L, int n, bool min_below_zero>
TSUBU_INLINE AffineScale search_affine(const float* x, const float* w, float high, const AffineGrid& grid,
                                       int n_refine) {
  auto low_v = L::load(x);
  auto high_v = low_v;
  auto sum_v = L::zero();
  auto sum_wx_v = L::zero();
  for (int i = 0; i < n; i += kLanes) {
    const auto v = L::load(x + i);
    low_v = L::min(low_v, v);
    high_v = L::max(high_v, v);
    sum_v = L::add(sum_v, L::load(w + i));
  }
  const float smallest = L::hmin(low_v);
  const float base = min_below_zero && smallest > 0 ? 0.0f : smallest;
  const float highest = min_below_zero ? -base : 0x1p40f;
  const float range = L::hmax(high_v) - base;
  if (!(range > kNegligible)) return {0.0f, base};
  float v[n];
  for (int i = 0; i < n; i += kLanes) {
    const auto above = L::sub(L::load(x + i), L::set1(base));
    L::store(v + i, above);
    sum_wx_v = L::add(sum_wx_v, L::mul(L::load(w + i), above));
  }
  const float sum_w = L::hsum(sum_v);
  const float sum_wv = L::hsum(sum_wx_v);
  auto inverse = L::mul(L::add(L::load(grid.steps), L::set1(high)), L::set1(1.0f / range));
  AffineFit<L> fit = fit_affine<L, n, false>(v, w, sum_w, sum_wv, inverse, L::zero(), high, highest);
  auto shift = L::zero();
  for (int r = 0; r < n_refine; ++r) {
    const auto usable = L::gt(fit.scale, L::set1(range * 0x1p-8f));
    inverse = L::select(usable, L::div(L::set1(1.0f), L::max(fit.scale, L::set1(range * 0x1p-8f))), inverse);
    shift = L::select(usable, L::mul(fit.offset, inverse), shift);
    fit = fit_affine<L, n, true>(v, w, sum_w, sum_wv, inverse, shift, high, highest);
  }
  const int best = best_lane<L>(fit.gain);
  return {lane<L>(fit.scale, best), lane<L>(fit.offset, best) + base};
}

}  // namespace tsubu
