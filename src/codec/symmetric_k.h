// Encoding of Q3_K, Q6_K and IQ4_XS: a block of 256 in sub-blocks, w = (d · scale) · code.
//   1. every sub-block's own best scale (symmetric_search.h);
//   2. d from the largest of them; integer scales are chosen among the neighbors of the rounded one by their exact
//   error;
//   3. d by least squares for the codes chosen; codes rounded once more.
#pragma once

#include "codec/codec.h"
#include "codec/symmetric_search.h"

namespace tsubu {

template <int n_sub>
struct SymmetricKBlock {
  Half d;
  int8_t scale[n_sub];
  uint8_t codes[256];  // as stored
};

inline constexpr float kNearScales[kLanes] = {0, -1, 1, -2, 2, -3, 3, -4, 4, -5, 5, -6, 6, -7, 7, 8};

// Codes of a block whose d and scales are known; the largest error.
template <class L, class Codes, int n_sub>
TSUBU_INLINE float round_symmetric_k(const Weighted<256>& block, SymmetricKBlock<n_sub>& out) {
  constexpr int kSubLen = 256 / n_sub;
  const float d = out.d.value();
  auto worst = L::zero();
  for (int s = 0; s < n_sub; ++s) {
    const float scale = d * static_cast<float>(out.scale[s]);
    const auto factor = L::set1(scale);
    const auto inverse = L::set1(scale > kNegligible || scale < -kNegligible ? 1.0f / scale : 0.0f);
    for (int i = 0; i < kSubLen; i += kLanes) {
      const auto v = L::load(block.x + s * kSubLen + i);
      const auto t = L::mul(v, inverse);
      L::store_u8(out.codes + s * kSubLen + i, Codes::template stored<L>(t));
      worst = L::max(worst, L::abs(L::sub(L::mul(factor, Codes::template nearest<L>(t)), v)));
    }
  }
  return L::hmax(worst);
}

// fine: the integer scales are so fine that the rounded one is taken without trying its neighbors. bound: of the
// relative error.
template <class L, class Codes, int n_sub, int scale_low, int scale_high, bool fine>
TSUBU_INLINE SymmetricKBlock<n_sub> encode_symmetric_k(const float* x, const float* importance,
                                                       const SymmetricGrid& grid, double bound) {
  constexpr int kSubLen = 256 / n_sub;
  SymmetricKBlock<n_sub> out = {};
  Weighted<256> block;
  copy_clamped<L, 256>(x, block);
  if (block.largest < kNegligible) {
    for (int i = 0; i < 256; i += kLanes) L::store_u8(out.codes + i, Codes::template stored<L>(L::zero()));
    return out;
  }
  weigh<L, 256>(importance, (importance ? 2 : 1) * mean_square_of<L, 256>(block), block);

  float scale[n_sub];
  float extreme = 0;  // the scale of largest magnitude
  for (int s = 0; s < n_sub; ++s) {
    const float* xs = block.x + s * kSubLen;
    scale[s] = search_symmetric<L, Codes, kSubLen>(xs, block.w + s * kSubLen, grid);
    extreme = scale[s] * scale[s] > extreme * extreme ? scale[s] : extreme;
  }
  out.d = Half::of(extreme / scale_low);
  const float coarse = out.d.value();
  const float per_d = coarse != 0 ? 1.0f / coarse : 0.0f;
  auto xa = L::zero();  // sums of w · x · a and w · a² with a = scale · code
  auto aa = L::zero();
  for (int s = 0; s < n_sub; ++s) {
    const float* xs = block.x + s * kSubLen;
    const float* ws = block.w + s * kSubLen;
    const auto middle = L::set1(scale[s] * per_d);
    const auto scales = round_within<L>(L::add(middle, L::load(kNearScales)), scale_low, scale_high);
    int chosen = 0;
    if constexpr (!fine) {
      const auto error = symmetric_error<L, Codes, kSubLen>(xs, ws, L::mul(scales, L::set1(coarse)));
      chosen = best_lane<L>(L::neg(error));
    }
    const float best = lane<L>(scales, chosen);
    out.scale[s] = static_cast<int8_t>(best);
    const float best_scale = best * coarse;
    const auto inverse = L::set1(best_scale > kNegligible || best_scale < -kNegligible ? 1.0f / best_scale : 0.0f);
    for (int i = 0; i < kSubLen; i += kLanes) {
      const auto v = L::load(xs + i);
      const auto a = L::mul(Codes::template nearest<L>(L::mul(v, inverse)), L::set1(best));
      const auto wa = L::mul(L::load(ws + i), a);
      xa = L::add(xa, L::mul(wa, v));
      aa = L::add(aa, L::mul(wa, a));
    }
  }
  const float sum_aa = L::hsum(aa);
  if (sum_aa > 0) out.d = Half::of(L::hsum(xa) / sum_aa);
  if (round_symmetric_k<L, Codes, n_sub>(block, out) <= static_cast<float>(bound) * block.largest) return out;

  // An outlier was given up for the others: round plainly instead, largest magnitudes to the lowest code.
  float plain[n_sub];
  float largest_plain = 0;
  for (int s = 0; s < n_sub; ++s) {
    plain[s] = extreme_of<L, kSubLen>(block.x + s * kSubLen) / Codes::kLow;
    largest_plain = plain[s] * plain[s] > largest_plain * largest_plain ? plain[s] : largest_plain;
  }
  out.d = Half::of(largest_plain / scale_low);
  const float d = out.d.value();
  for (int s = 0; s < n_sub; ++s) {
    const auto rounded = round_within<L>(L::set1(d != 0 ? plain[s] / d : 0.0f), scale_low, scale_high);
    out.scale[s] = static_cast<int8_t>(lane<L>(rounded, 0));
  }
  round_symmetric_k<L, Codes, n_sub>(block, out);
  return out;
}

}  // namespace tsubu
