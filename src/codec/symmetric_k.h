// Encoding of Q3_K, Q6_K and IQ4_XS: blocks of 256 in sub-blocks, w = (d · scale) · code, as many as have sixteen sub-blocks at a
// time (codec/panel.h).
//   1. every sub-block's own best scale (symmetric_panel.h);
//   2. d from the largest of them; integer scales are chosen among the neighbors of the rounded one by their exact error;
//   3. d by least squares for the codes chosen; codes rounded once more.
#pragma once

#include "codec/codec.h"
#include "codec/symmetric_panel.h"
#include "codec/symmetric_search.h"

namespace tsubu {

template <int n_sub>
struct SymmetricKBlock {
  Half d;
  int8_t scale[n_sub];
  uint8_t codes[256];  // as stored
};

// Σ w (x - scale · code)², codes at their best.
template <class L, class Codes, int n>
TSUBU_INLINE typename L::F symmetric_panel_error(const Panel<n>& p, typename L::F scale) {
  const auto usable = L::gt(L::abs(scale), L::set1(kNegligible));
  const auto inverse = L::select(usable, L::div(L::set1(1.0f), scale), L::zero());
  auto error = L::zero();
#pragma GCC unroll 4
  for (int i = 0; i < n; ++i) {
    const auto v = L::load(p.x[i]);
    const auto difference = L::fma(scale, Codes::template nearest_product<L>(v, inverse), L::neg(v));
    error = L::fma(L::mul(L::load(p.w[i]), difference), difference, error);
  }
  return error;
}

// Codes of a block whose d and scales are known; the largest error.
template <class L, class Codes, int n_sub>
TSUBU_INLINE float round_symmetric_k(const float* x, SymmetricKBlock<n_sub>& out) {
  constexpr int kSubLen = 256 / n_sub;
  const float d = out.d.value();
  auto worst = L::zero();
  for (int s = 0; s < n_sub; ++s) {
    const float scale = d * static_cast<float>(out.scale[s]);
    const auto factor = L::set1(scale);
    const auto inverse = L::set1(scale > kNegligible || scale < -kNegligible ? 1.0f / scale : 0.0f);
    for (int i = 0; i < kSubLen; i += kLanes) {
      const auto v = L::load(x + s * kSubLen + i);
      const auto t = L::mul(v, inverse);
      L::store_u8(out.codes + s * kSubLen + i, Codes::template stored<L>(t));
      worst = L::max(worst, L::abs(L::sub(L::mul(factor, Codes::template nearest<L>(t)), v)));
    }
  }
  return L::hmax(worst);
}

// For a block with an outlier that was given up for the others: largest magnitudes to the lowest code.
template <class L, class Codes, int n_sub, int scale_low, int scale_high>
TSUBU_OUTLINE void round_symmetric_k_plainly(const float* x, SymmetricKBlock<n_sub>& out) {
  constexpr int kSubLen = 256 / n_sub;
  float plain[n_sub];
  float largest_plain = 0;
  for (int s = 0; s < n_sub; ++s) {
    plain[s] = extreme_of<L, kSubLen>(x + s * kSubLen) / Codes::kLow;
    largest_plain = plain[s] * plain[s] > largest_plain * largest_plain ? plain[s] : largest_plain;
  }
  out.d = Half::of(largest_plain / scale_low);
  const float d = out.d.value();
  for (int s = 0; s < n_sub; ++s) {
    const auto rounded = round_within<L>(L::set1(d != 0 ? plain[s] / d : 0.0f), scale_low, scale_high);
    out.scale[s] = static_cast<int8_t>(lane<L>(rounded, 0));
  }
  round_symmetric_k<L, Codes, n_sub>(x, out);
}

// n blocks, at most those of a panel. on: codes that a sub-block's extreme is put on. near: integers added to the rounded scale; one
// (0) takes it without looking at errors. bound: of the relative error.
template <class L, class Codes, int sub_len, int scale_low, int scale_high, int n_grid, int n_near>
TSUBU_INLINE void encode_symmetric_k(const float* x, const float* importance, int n, const float (&on)[n_grid], const float (&near)[n_near],
                                     double bound, SymmetricKBlock<256 / sub_len>* out) {
  using K = KPanel<sub_len>;
  using F = typename L::F;
  constexpr int n_sub = K::kSub;
  K k;
  k.template load<L>(x, importance, n);
  const Panel<sub_len>& p = k.panel;
  auto low = L::zero(), high = L::zero();
  for (int i = 0; i < sub_len; ++i) {
    low = L::min(low, L::load(p.x[i]));
    high = L::max(high, L::load(p.x[i]));
  }
  const F extreme = L::select(L::lt(high, L::neg(low)), low, high);  // the positive one of two
  const auto visible = L::gt(L::abs(extreme), L::set1(kNegligible));
  const F per_extreme = L::select(visible, L::div(L::set1(1.0f), L::select(visible, extreme, L::set1(1.0f))), L::zero());
  const F own = search_symmetric_panel<L, Codes, sub_len>(p, per_extreme, on);

  float d[K::kBlocks], own_scales[kLanes];
  L::store(own_scales, own);
  for (int b = 0; b < K::kBlocks; ++b) {
    float most = 0;  // the scale of largest magnitude
    for (int s = n_sub * b; s < n_sub * (b + 1); ++s) most = own_scales[s] * own_scales[s] > most * most ? own_scales[s] : most;
    d[b] = Half::of(most / scale_low).value();
  }
  const F ds = K::template spread<L>(d);
  const F near_scale = L::select(L::gt(L::abs(ds), L::zero()), L::div(own, ds), L::zero());
  F scale = L::zero();  // integer
  auto least = L::set1(0x1p120f);
#pragma GCC unroll 1
  for (int s = 0; s < n_near; ++s) {
    const F scales = round_within<L>(L::add(near_scale, L::set1(near[s])), scale_low, scale_high);
    const F error = n_near == 1 ? L::zero() : symmetric_panel_error<L, Codes, sub_len>(p, L::mul(scales, ds));
    const auto better = L::lt(error, least);
    least = L::select(better, error, least);
    scale = L::select(better, scales, scale);
  }
  const F step = L::mul(scale, ds);
  const auto usable = L::gt(L::abs(step), L::set1(kNegligible));
  const F inverse = L::select(usable, L::div(L::set1(1.0f), L::select(usable, step, L::set1(1.0f))), L::zero());
  const SymmetricSums<L> sums = symmetric_sums<L, Codes, sub_len>(p, inverse);
  float xa[K::kBlocks], aa[K::kBlocks];  // sums of w · x · a and w · a² with a = scale · code
  K::template sum_blocks<L>(L::mul(scale, sums.product), xa);
  K::template sum_blocks<L>(L::mul(L::mul(scale, scale), sums.two), aa);
  int32_t scales[kLanes];
  L::store_i(scales, L::to_int(scale));
  for (int b = 0; b < n; ++b) {
    SymmetricKBlock<n_sub>& block = out[b];
    const float* values = k.x + 256 * b;
    const bool some = k.largest[b] >= kNegligible;
    block.d = Half::of(!some ? 0.0f : aa[b] > 0 ? xa[b] / aa[b] : d[b]);
    for (int s = 0; s < n_sub; ++s) block.scale[s] = static_cast<int8_t>(some ? scales[n_sub * b + s] : 0);
    if (round_symmetric_k<L, Codes, n_sub>(values, block) > static_cast<float>(bound) * k.largest[b] && some)
      round_symmetric_k_plainly<L, Codes, n_sub, scale_low, scale_high>(values, block);
  }
}

// The n blocks of codec C that encode_panel is asked for.
template <class C, class L, class Codes, int sub_len, int scale_low, int scale_high, int n_grid, int n_near>
TSUBU_INLINE void encode_symmetric_k_rows(const float* x, const float* importance, int n, const float (&on)[n_grid],
                                          const float (&near)[n_near], double bound, typename C::Block* blocks) {
  constexpr int kAtOnce = KPanel<sub_len>::kBlocks;
#pragma GCC unroll 1
  for (int i = 0; i < n; i += kAtOnce) {
    SymmetricKBlock<256 / sub_len> found[kAtOnce];
    const int some = n - i < kAtOnce ? n - i : kAtOnce;
    encode_symmetric_k<L, Codes, sub_len, scale_low, scale_high>(x + 256 * i, importance ? importance + 256 * i : nullptr, some, on, near,
                                                                 bound, found);
    for (int b = 0; b < some; ++b) blocks[i + b] = C::pack(found[b]);
  }
}

}  // namespace tsubu
