// Encoding of Q4_1 and Q5_1, and the search for x ≈ s · code + m with codes 0 … high, sixteen blocks or sub-blocks side by side
// (codec/panel.h). Candidate grids are tried one after the other, each judged by its least-squares scale and offset.
#pragma once

#include "codec/panel.h"

namespace tsubu {

// Σ w · code, Σ w · code², Σ w · code · v.
template <class L>
struct AffineSums {
  typename L::F one, two, product;
};

template <class L>
struct AffineFit {
  typename L::F scale;  // least-squares scale and offset of each candidate's codes
  typename L::F offset;
  typename L::F gain;  // how much of Σ w v² they explain
};

// Codes are round(v · inverse - shift), v as they lie in the panel. shifted: v may be negative and shift anything but zero.
template <class L, int n, bool shifted>
TSUBU_INLINE AffineSums<L> affine_sums(const float (*v)[kLanes], const float (*w)[kLanes], typename L::F inverse, typename L::F shift,
                                       float high) {
  AffineSums<L> sums = {L::zero(), L::zero(), L::zero()};
  const auto back = L::neg(shift);
#pragma GCC unroll 4
  for (int i = 0; i < n; ++i) {
    const auto value = L::load(v[i]);
    typename L::F code;
    if constexpr (shifted) code = round_within<L>(L::fma(value, inverse, back), 0.0f, high);
    else code = L::sub(L::min(L::fma(value, inverse, L::set1(kToInteger)), L::set1(kToInteger + high)), L::set1(kToInteger));  // ≥ 0
    const auto weighted = L::mul(L::load(w[i]), code);
    sums.one = L::add(sums.one, weighted);
    sums.two = L::fma(weighted, code, sums.two);
    sums.product = L::fma(weighted, value, sums.product);
  }
  return sums;
}

// highest: that the offset may be.
template <class L>
TSUBU_INLINE AffineFit<L> solve_affine(const AffineSums<L>& sums, typename L::F sum_w, typename L::F sum_wv, typename L::F highest) {
  const auto tiny = L::set1(0x1p-60f);
  // Normal equations: scale · two + offset · one = product, scale · one + offset · sum_w = sum_wv. A determinant of zero (all
  // codes equal) gives an offset of zero.
  const auto det = L::sub(L::mul(sum_w, sums.two), L::mul(sums.one, sums.one));
  const auto numerator = L::sub(L::mul(sum_wv, sums.two), L::mul(sums.product, sums.one));
  const auto solvable = L::gt(det, L::mul(L::mul(sum_w, sums.two), L::set1(0x1p-18f)));
  const auto free = L::select(solvable, L::div(numerator, L::max(det, tiny)), L::zero());
  const auto offset = L::min(free, highest);
  const auto rest = L::sub(sums.product, L::mul(offset, sums.one));
  const auto scale = L::max(L::div(rest, L::max(sums.two, tiny)), L::zero());
  // Σ w v² - Σ w (v - scale · code - offset)², with scale optimal for the offset.
  const auto twice = L::add(sum_wv, sum_wv);
  return {scale, offset, L::add(L::mul(scale, rest), L::mul(offset, L::sub(twice, L::mul(offset, sum_w))))};
}

template <class L>
TSUBU_INLINE void keep_better(const AffineFit<L>& fit, AffineFit<L>& best) {
  const auto better = L::gt(fit.gain, best.gain);
  best.scale = L::select(better, fit.scale, best.scale);
  best.offset = L::select(better, fit.offset, best.offset);
  best.gain = L::select(better, fit.gain, best.gain);
}

template <class L>
struct AffinePanelScale {
  typename L::F scale, min;
};

// steps: candidates, steps between the smallest and the largest value less the highest code. refine_each: every one is given the
// codes of its own scale and minimum before it is judged; n_refine: how often the best one is. min_below_zero: the minimum may not
// be positive, as in the K formats.
template <class L, int n, bool min_below_zero, int n_steps>
TSUBU_INLINE AffinePanelScale<L> search_affine_panel(const Panel<n>& p, float high, const float (&steps)[n_steps], bool refine_each,
                                                     int n_refine) {
  auto low_v = L::load(p.x[0]), high_v = low_v;
  for (int i = 1; i < n; ++i) {
    low_v = L::min(low_v, L::load(p.x[i]));
    high_v = L::max(high_v, L::load(p.x[i]));
  }
  const auto base = min_below_zero ? L::min(low_v, L::zero()) : low_v;
  const auto highest = min_below_zero ? L::neg(base) : L::set1(0x1p40f);
  const auto range = L::sub(high_v, base);
  const auto visible = L::gt(range, L::set1(kNegligible));
  const auto per_range = L::select(visible, L::div(L::set1(1.0f), L::max(range, L::set1(kNegligible))), L::zero());
  float v[n][kLanes];
  auto sum_w = L::zero(), sum_wv = L::zero();
  for (int i = 0; i < n; ++i) {
    const auto above = L::sub(L::load(p.x[i]), base), w = L::load(p.w[i]);
    L::store(v[i], above);
    sum_w = L::add(sum_w, w);
    sum_wv = L::fma(w, above, sum_wv);
  }
  const auto floor = L::max(L::mul(range, L::set1(0x1p-8f)), L::set1(kNegligible));
  const auto refined = [&](const AffineFit<L>& fit) __attribute__((always_inline)) {
    const auto usable = L::gt(fit.scale, floor);
    const auto inverse = L::select(usable, L::div(L::set1(1.0f), L::max(fit.scale, floor)), L::mul(L::set1(high), per_range));
    const auto shift = L::select(usable, L::mul(fit.offset, inverse), L::zero());
    return solve_affine<L>(affine_sums<L, n, true>(v, p.w, inverse, shift, high), sum_w, sum_wv, highest);
  };
  AffineFit<L> best = {L::zero(), L::zero(), L::zero()};
#pragma GCC unroll 1
  for (int s = 0; s < n_steps; ++s) {
    const auto inverse = L::mul(L::set1(steps[s] + high), per_range);
    AffineFit<L> fit = solve_affine<L>(affine_sums<L, n, false>(v, p.w, inverse, L::zero(), high), sum_w, sum_wv, highest);
    if (refine_each) fit = refined(fit);
    keep_better<L>(fit, best);
  }
#pragma GCC unroll 1
  for (int r = 0; r < n_refine; ++r) keep_better<L>(refined(best), best);
  return {L::select(visible, best.scale, L::zero()), L::add(L::select(visible, best.offset, L::zero()), base)};
}

// n blocks of codec C, at most sixteen of 32 weights, w = d · code + m. A block that would exceed the codec's bound of the relative
// error is rounded plainly between its smallest and largest value.
template <class C, class L>
TSUBU_INLINE void encode_affine_panel(const float* x, const float* importance, const Row& row, typename C::Block* blocks, int n) {
  constexpr int bits = requires(typename C::Block b) { b.qh; } ? 5 : 4;
  constexpr float high = (1 << bits) - 1;
  constexpr float kSteps[] = {-1.2f, -0.8f, -0.4f, 0.0f, 0.4f, 0.8f, 1.3f, 2.0f};
  uint16_t d[kLanes], m[kLanes];
  PanelCodes out;
  Panel<32> p;
  turn_blocks<L>(x, n, p.x);
  const auto largest = weigh_panel<L>(importance, n, row, p).largest;
  AffinePanelScale<L> fit = search_affine_panel<L, 32, false>(p, high, kSteps, importance != nullptr, 1);
  const auto visible = L::lt(L::set1(kNegligible), largest);
  fit.min = L::select(visible, fit.min, L::zero());
  const auto limit = L::mul(L::set1(static_cast<float>(C::kMaxRelativeError)), largest);
  for (int attempt = 0; attempt < 2; ++attempt) {
    const auto scale = store_finite_f16<L>(d, fit.scale), min = store_finite_f16<L>(m, fit.min);
    const auto inverse = L::select(L::gt(scale, L::zero()), L::div(L::set1(1.0f), scale), L::zero());
    auto worst = L::zero();
    pack_panel<L, bits>(
        [&](int i) __attribute__((always_inline)) {
          const auto v = L::load(p.x[i]);
          const auto code = round_within<L>(L::mul(L::sub(v, min), inverse), 0.0f, high);
          worst = L::max(worst, L::abs(L::sub(L::fma(scale, code, min), v)));
          return L::to_int(code);
        },
        out);
    const auto beyond = L::select(visible, L::sub(worst, limit), L::zero());
    const auto again = L::gt(beyond, L::zero());
    if (attempt > 0 || L::mask_bits(again) == 0) break;
    auto low_v = L::load(p.x[0]), high_v = low_v;
    for (int i = 1; i < 32; ++i) {
      low_v = L::min(low_v, L::load(p.x[i]));
      high_v = L::max(high_v, L::load(p.x[i]));
    }
    fit.min = L::select(again, low_v, fit.min);
    fit.scale = L::select(again, L::mul(L::sub(high_v, low_v), L::set1(1.0f / high)), fit.scale);
  }
  for (int b = 0; b < n; ++b) {
    blocks[b].d = Half::of_bits(d[b]);
    blocks[b].m = Half::of_bits(m[b]);
    out.copy_block(b, blocks[b]);
  }
}

}  // namespace tsubu
