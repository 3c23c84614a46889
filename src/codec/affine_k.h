// Encoding of Q2_K, Q4_K and Q5_K: a block of 256 in sub-blocks, w = (d · scale) · code - dmin · min.
//   1. every sub-block's own best scale and minimum (affine_search.h), each candidate refined once;
//   2. d and dmin from the largest of them; integer scales and minimums are chosen among the neighbors of the rounded
//   ones
//      by their exact error;
//   3. d and dmin by least squares for the codes chosen; codes rounded once more.
#pragma once

#include "base/half.h"
#include "codec/affine_search.h"
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

// Σ w (x - (scale · code - min))² of each lane's scale and min, codes at their best.
template <class L, int n>
TSUBU_INLINE typename L::F affine_error(const float* x, const float* w, typename L::F scale, typename L::F min,
                                        float high) {
  const auto inverse = L::div(L::set1(1.0f), L::max(scale, L::set1(kNegligible)));
  const auto shift = L::mul(min, inverse);
  auto error = L::zero();
  for (int i = 0; i < n; ++i) {
    const auto v = L::set1(x[i]);
    const auto code = round_within<L>(L::add(L::mul(v, inverse), shift), 0.0f, high);
    const auto difference = L::sub(L::sub(L::mul(scale, code), min), v);
    error = L::add(error, L::mul(L::mul(L::set1(w[i]), difference), difference));
  }
  return error;
}

inline constexpr float kScaleSteps[kLanes] = {0, -1, 1, 0, 0, -1, -1, 1, 1, 2, -2, 0, 0, 2, -2, 1};
inline constexpr float kMinSteps[kLanes] = {0, 0, 0, -1, 1, -1, 1, -1, 1, 0, 0, 2, -2, 1, -1, 2};

// Codes of a block whose scales and minimums are known; the largest error.
template <class L, int n_sub, int high>
TSUBU_INLINE float round_affine_k(const Weighted<256>& block, AffineKBlock<n_sub>& out) {
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
      const auto above = L::add(L::load(block.x + s * kSubLen + i), offset);
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

// n_refine: see search_affine. n_passes: of steps 2 and 3. bound: of the relative error.
template <class L, int n_sub, int sub_len, int high, int scale_high>
TSUBU_INLINE AffineKBlock<n_sub> encode_affine_k(const float* x, const float* importance, const AffineGrid& grid,
                                                 int n_refine, int n_passes, double bound) {
  AffineKBlock<n_sub> out = {};
  Weighted<256> block;
  copy_clamped<L, 256>(x, block);
  if (block.largest < kNegligible) return out;
  weigh<L, 256>(importance, (importance ? 2 : 1) * mean_square_of<L, 256>(block), block);

  float scale[n_sub];
  float min[n_sub];  // ≥ 0, subtracted
  float largest_scale = 0;
  float largest_min = 0;
  for (int s = 0; s < n_sub; ++s) {
    const AffineScale fit = search_affine<L, sub_len, true>(block.x + s * sub_len, block.w + s * sub_len,
                                                            static_cast<float>(high), grid, n_refine);
    scale[s] = fit.scale;
    min[s] = -fit.min;
    largest_scale = scale[s] > largest_scale ? scale[s] : largest_scale;
    largest_min = min[s] > largest_min ? min[s] : largest_min;
  }
  out.d = Half::of(largest_scale / scale_high);
  out.dmin = Half::of(largest_min / scale_high);

  float d = out.d.value();
  float dmin = out.dmin.value();
  const float top = static_cast<float>(scale_high);
  for (int pass = 0; pass < n_passes; ++pass) {
    const float per_d = d > 0 ? 1.0f / d : 0.0f;
    const float per_dmin = dmin > 0 ? 1.0f / dmin : 0.0f;
    // Sums of the normal equations for d and dmin: x ≈ d · (scale · code) - dmin · min.
    auto aa = L::zero(), ab = L::zero(), bb = L::zero(), xa = L::zero(), xb = L::zero();
    for (int s = 0; s < n_sub; ++s) {
      const float* xs = block.x + s * sub_len;
      const float* ws = block.w + s * sub_len;
      const auto scales = round_within<L>(L::add(L::set1(scale[s] * per_d), L::load(kScaleSteps)), 0.0f, top);
      const auto mins = round_within<L>(L::add(L::set1(min[s] * per_dmin), L::load(kMinSteps)), 0.0f, top);
      const auto error = affine_error<L, sub_len>(xs, ws, L::mul(scales, L::set1(d)), L::mul(mins, L::set1(dmin)),
                                                  static_cast<float>(high));
      const int best = best_lane<L>(L::neg(error));
      const float sc = lane<L>(scales, best);
      const float mn = lane<L>(mins, best);
      out.scale[s] = static_cast<uint8_t>(sc);
      out.min[s] = static_cast<uint8_t>(mn);
      const auto inverse = L::set1(sc * d > kNegligible ? 1.0f / (sc * d) : 0.0f);
      const auto offset = L::set1(mn * dmin);
      for (int i = 0; i < sub_len; i += kLanes) {
        const auto v = L::load(xs + i);
        const auto w = L::load(ws + i);
        const auto grid_value = L::mul(L::add(v, offset), inverse);
        const auto code = round_within<L>(grid_value, 0.0f, static_cast<float>(high));
        const auto a = L::mul(code, L::set1(sc));
        const auto b = L::set1(mn);
        const auto wa = L::mul(w, a);
        const auto wb = L::mul(w, b);
        aa = L::add(aa, L::mul(wa, a));
        ab = L::add(ab, L::mul(wa, b));
        bb = L::add(bb, L::mul(wb, b));
        xa = L::add(xa, L::mul(wa, v));
        xb = L::add(xb, L::mul(wb, v));
      }
    }
    const float saa = L::hsum(aa), sab = L::hsum(ab), sbb = L::hsum(bb), sxa = L::hsum(xa), sxb = L::hsum(xb);
    const float det = saa * sbb - sab * sab;
    if (det > saa * sbb * 0x1p-18f) {
      const float new_d = (sxa * sbb - sxb * sab) / det;
      const float new_dmin = (sxa * sab - sxb * saa) / det;
      if (new_d > 0 && new_dmin >= 0) {
        out.d = Half::of(new_d);
        out.dmin = Half::of(new_dmin);
      }
    } else if (saa > 0 && sbb == 0) {
      const float new_d = sxa / saa;
      if (new_d > 0) out.d = Half::of(new_d);
    }
    d = out.d.value();
    dmin = out.dmin.value();
  }
  if (round_affine_k<L, n_sub, high>(block, out) <= static_cast<float>(bound) * block.largest) return out;

  // An outlier was given up for the others: round plainly instead, between smallest and largest values.
  largest_scale = 0;
  largest_min = 0;
  for (int s = 0; s < n_sub; ++s) {
    auto low_v = L::zero();
    auto high_v = L::load(block.x + s * sub_len);
    for (int i = 0; i < sub_len; i += kLanes) {
      low_v = L::min(low_v, L::load(block.x + s * sub_len + i));
      high_v = L::max(high_v, L::load(block.x + s * sub_len + i));
    }
    min[s] = -L::hmin(low_v);
    scale[s] = (L::hmax(high_v) + min[s]) / high;
    scale[s] = scale[s] > 0 ? scale[s] : 0.0f;
    largest_scale = scale[s] > largest_scale ? scale[s] : largest_scale;
    largest_min = min[s] > largest_min ? min[s] : largest_min;
  }
  out.d = Half::of(largest_scale / scale_high);
  out.dmin = Half::of(largest_min / scale_high);
  d = out.d.value();
  dmin = out.dmin.value();
  for (int s = 0; s < n_sub; ++s) {
    out.scale[s] = static_cast<uint8_t>(lane<L>(round_within<L>(L::set1(d > 0 ? scale[s] / d : 0.0f), 0.0f, top), 0));
    out.min[s] = static_cast<uint8_t>(lane<L>(round_within<L>(L::set1(dmin > 0 ? min[s] / dmin : 0.0f), 0.0f, top), 0));
  }
  round_affine_k<L, n_sub, high>(block, out);
  return out;
}

}  // namespace tsubu
