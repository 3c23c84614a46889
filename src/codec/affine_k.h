// Encoding of Q2_K, Q4_K and Q5_K: blocks of 256 in sub-blocks, w = (d · scale) · code - dmin · min, as many as have sixteen
// sub-blocks at a time (codec/panel.h).
//   1. every sub-block's own best scale and minimum (affine_panel.h);
//   2. d and dmin from the largest of them; integer scales and minimums are chosen among the neighbors of the rounded ones by
//      their exact error;
//   3. d and dmin by least squares for the codes chosen; codes rounded once more.
#pragma once

#include "base/half.h"
#include "codec/affine_panel.h"
#include "codec/codec.h"

namespace tsubu {

template <int n_sub>
struct AffineKBlock {
  Half d;
  Half dmin;
  uint8_t scale[n_sub];
  uint8_t min[n_sub];
  uint8_t codes[256];
};

// Σ w (x - (scale · code - min))², codes at their best.
template <class L, int n>
TSUBU_INLINE typename L::F affine_panel_error(const Panel<n>& p, typename L::F scale, typename L::F min, float high) {
  const auto inverse = L::div(L::set1(1.0f), L::max(scale, L::set1(kNegligible)));
  const auto shift = L::mul(min, inverse), down = L::neg(min);
  auto error = L::zero();
#pragma GCC unroll 4
  for (int i = 0; i < n; ++i) {
    const auto v = L::load(p.x[i]);
    const auto code = round_within<L>(L::fma(v, inverse, shift), 0.0f, high);
    const auto difference = L::sub(L::fma(scale, code, down), v);
    error = L::fma(L::mul(L::load(p.w[i]), difference), difference, error);
  }
  return error;
}

// Codes of a block whose scales and minimums are known; the largest error.
template <class L, int n_sub, int high>
TSUBU_INLINE float round_affine_k(const float* x, AffineKBlock<n_sub>& out) {
  constexpr int kSubLen = 256 / n_sub;
  const float d = out.d.value();
  const float dmin = out.dmin.value();
  auto worst = L::zero();
  for (int s = 0; s < n_sub; ++s) {
    const float scale = d * static_cast<float>(out.scale[s]);
    const auto factor = L::set1(scale);
    const auto inverse = L::set1(scale > kNegligible ? 1.0f / scale : 0.0f);
    const auto offset = L::set1(dmin * static_cast<float>(out.min[s]));
    for (int i = 0; i < kSubLen; i += kLanes) {
      const auto above = L::add(L::load(x + s * kSubLen + i), offset);
      const auto code = round_within<L>(L::mul(above, inverse), 0.0f, static_cast<float>(high));
      L::store_u8(out.codes + s * kSubLen + i, L::to_int(code));
      worst = L::max(worst, L::abs(L::sub(L::mul(factor, code), above)));
    }
  }
  return L::hmax(worst);
}

// Relative error bound of plain rounding with codes 0 … high, scales and minimums 0 … scale_high: half a step (the
// range is at most twice the largest magnitude), half a unit of the scale times the highest code (and of half a step),
// half a unit of the minimum, and the rounding of d and dmin to f16.
constexpr double plain_affine_k_bound(int high, int scale_high) {
  const double step = 2.0 / high;
  const double scale_unit = step / scale_high;
  const double min_unit = 1.0 / scale_high;
  return step / 2 + scale_unit / 2 * (high + 0.5) + min_unit / 2 + 3 * 0x1p-11;
}

// For a block with an outlier that was given up for the others: scales and minimums between smallest and largest values.
template <class L, int n_sub, int high, int scale_high>
TSUBU_OUTLINE void round_affine_k_plainly(const float* x, AffineKBlock<n_sub>& out) {
  constexpr int sub_len = 256 / n_sub;
  const float top = static_cast<float>(scale_high);
  float scale[n_sub], min[n_sub];
  float largest_scale = 0, largest_min = 0;
  for (int s = 0; s < n_sub; ++s) {
    auto low_v = L::zero();
    auto high_v = L::load(x + s * sub_len);
    for (int i = 0; i < sub_len; i += kLanes) {
      low_v = L::min(low_v, L::load(x + s * sub_len + i));
      high_v = L::max(high_v, L::load(x + s * sub_len + i));
    }
    min[s] = -L::hmin(low_v);
    scale[s] = (L::hmax(high_v) + min[s]) / high;
    scale[s] = scale[s] > 0 ? scale[s] : 0.0f;
    largest_scale = scale[s] > largest_scale ? scale[s] : largest_scale;
    largest_min = min[s] > largest_min ? min[s] : largest_min;
  }
  out.d = Half::of(largest_scale / scale_high);
  out.dmin = Half::of(largest_min / scale_high);
  const float d = out.d.value(), dmin = out.dmin.value();
  for (int s = 0; s < n_sub; ++s) {
    out.scale[s] = static_cast<uint8_t>(lane<L>(round_within<L>(L::set1(d > 0 ? scale[s] / d : 0.0f), 0.0f, top), 0));
    out.min[s] = static_cast<uint8_t>(lane<L>(round_within<L>(L::set1(dmin > 0 ? min[s] / dmin : 0.0f), 0.0f, top), 0));
  }
  round_affine_k<L, n_sub, high>(x, out);
}

// Neighbors of a sub-block's rounded scale and minimum.
struct AffineStep {
  float scale, min;
};

// n blocks, at most those of a panel. grid: see search_affine_panel, as n_refine (every candidate is refined). n_passes: of steps
// 2 and 3. bound: of the relative error.
template <class L, int sub_len, int high, int scale_high, int n_grid>
TSUBU_INLINE void encode_affine_k(const float* x, const float* importance, int n, const float (&grid)[n_grid], int n_refine, int n_passes,
                                  double bound, AffineKBlock<256 / sub_len>* out) {
  using K = KPanel<sub_len>;
  using F = typename L::F;
  constexpr int n_sub = K::kSub;
  K k;
  k.template load<L>(x, importance, n);
  const Panel<sub_len>& p = k.panel;
  const float top = static_cast<float>(scale_high), highest = static_cast<float>(high);
  const AffinePanelScale<L> fit = search_affine_panel<L, sub_len, true>(p, highest, grid, true, n_refine);
  const F own_scale = fit.scale, own_min = L::neg(fit.min);  // ≥ 0, subtracted

  float d[K::kBlocks], dmin[K::kBlocks];
  {
    float scales[kLanes], mins[kLanes];
    L::store(scales, own_scale);
    L::store(mins, own_min);
    for (int b = 0; b < K::kBlocks; ++b) {
      float largest_scale = 0, largest_min = 0;
      for (int s = n_sub * b; s < n_sub * (b + 1); ++s) {
        largest_scale = scales[s] > largest_scale ? scales[s] : largest_scale;
        largest_min = mins[s] > largest_min ? mins[s] : largest_min;
      }
      d[b] = Half::of(largest_scale / top).value();
      dmin[b] = Half::of(largest_min / top).value();
    }
  }
  constexpr AffineStep kNear[] = {{0, 0}, {-1, 0}, {1, 0}, {0, -1}, {0, 1}, {-1, -1}, {-1, 1}, {1, -1}, {1, 1}};
  auto sum_w = L::zero(), sum_wx = L::zero();
  for (int i = 0; i < sub_len; ++i) {
    const auto w = L::load(p.w[i]);
    sum_w = L::add(sum_w, w);
    sum_wx = L::fma(w, L::load(p.x[i]), sum_wx);
  }
  F scale = L::zero(), min = L::zero();  // integers
#pragma GCC unroll 1
  for (int pass = 0; pass < n_passes; ++pass) {
    const F ds = K::template spread<L>(d), dmins = K::template spread<L>(dmin);
    const auto some = L::gt(ds, L::zero()), some_min = L::gt(dmins, L::zero());
    const F near_scale = L::select(some, L::div(own_scale, ds), L::zero());
    const F near_min = L::select(some_min, L::div(own_min, dmins), L::zero());
    auto least = L::set1(0x1p120f);
#pragma GCC unroll 1
    for (const AffineStep& near : kNear) {
      const F scales = round_within<L>(L::add(near_scale, L::set1(near.scale)), 0.0f, top);
      const F mins = round_within<L>(L::add(near_min, L::set1(near.min)), 0.0f, top);
      const F error = affine_panel_error<L, sub_len>(p, L::mul(scales, ds), L::mul(mins, dmins), highest);
      const auto better = L::lt(error, least);
      least = L::select(better, error, least);
      scale = L::select(better, scales, scale);
      min = L::select(better, mins, min);
    }
    // Normal equations for d and dmin: x ≈ d · (scale · code) - dmin · min.
    const F step = L::mul(scale, ds);
    const F inverse = L::select(L::gt(step, L::set1(kNegligible)), L::div(L::set1(1.0f), L::max(step, L::set1(kNegligible))), L::zero());
    const F shift = L::neg(L::mul(L::mul(min, dmins), inverse));
    const AffineSums<L> sums = affine_sums<L, sub_len, true>(p.x, p.w, inverse, shift, highest);
    float aa[K::kBlocks], ab[K::kBlocks], bb[K::kBlocks], xa[K::kBlocks], xb[K::kBlocks];
    K::template sum_blocks<L>(L::mul(L::mul(scale, scale), sums.two), aa);
    K::template sum_blocks<L>(L::mul(L::mul(scale, min), sums.one), ab);
    K::template sum_blocks<L>(L::mul(L::mul(min, min), sum_w), bb);
    K::template sum_blocks<L>(L::mul(scale, sums.product), xa);
    K::template sum_blocks<L>(L::mul(min, sum_wx), xb);
    for (int b = 0; b < K::kBlocks; ++b) {
      const float det = aa[b] * bb[b] - ab[b] * ab[b];
      if (det > aa[b] * bb[b] * 0x1p-18f) {
        const float new_d = (xa[b] * bb[b] - xb[b] * ab[b]) / det;
        const float new_dmin = (xa[b] * ab[b] - xb[b] * aa[b]) / det;
        if (new_d > 0 && new_dmin >= 0) {
          d[b] = Half::of(new_d).value();
          dmin[b] = Half::of(new_dmin).value();
        }
      } else if (aa[b] > 0 && bb[b] == 0) {
        const float new_d = xa[b] / aa[b];
        if (new_d > 0) d[b] = Half::of(new_d).value();
      }
    }
  }
  uint8_t scales[kLanes], mins[kLanes];
  L::store_u8(scales, L::to_int(scale));
  L::store_u8(mins, L::to_int(min));
  for (int b = 0; b < n; ++b) {
    AffineKBlock<n_sub>& block = out[b];
    block = {};
    if (k.largest[b] < kNegligible) continue;
    block.d = Half::of(d[b]);
    block.dmin = Half::of(dmin[b]);
    __builtin_memcpy(block.scale, scales + n_sub * b, n_sub);
    __builtin_memcpy(block.min, mins + n_sub * b, n_sub);
    const float* values = k.x + 256 * b;
    if (round_affine_k<L, n_sub, high>(values, block) > static_cast<float>(bound) * k.largest[b])
      round_affine_k_plainly<L, n_sub, high, scale_high>(values, block);
  }
}

// The n blocks of codec C that encode_panel is asked for.
template <class C, class L, int sub_len, int high, int scale_high, int n_grid>
TSUBU_INLINE void encode_affine_k_rows(const float* x, const float* importance, int n, const float (&grid)[n_grid], int n_refine, int n_passes,
                                       double bound, typename C::Block* blocks) {
  constexpr int kAtOnce = KPanel<sub_len>::kBlocks;
#pragma GCC unroll 1
  for (int i = 0; i < n; i += kAtOnce) {
    AffineKBlock<256 / sub_len> found[kAtOnce];
    const int some = n - i < kAtOnce ? n - i : kAtOnce;
    encode_affine_k<L, sub_len, high, scale_high>(x + 256 * i, importance ? importance + 256 * i : nullptr, some, grid, n_refine, n_passes, bound,
                                                  found);
    for (int b = 0; b < some; ++b) blocks[i + b] = C::pack(found[b]);
  }
}

}  // namespace tsubu
