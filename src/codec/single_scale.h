// Encoding of blocks with one f16 scale and codes of a bit or two (TQ1_0, TQ2_0, Q2_0): w = d · code. With so few codes
// the error has many local minima in d, so sixteen scales over a factor of sixteen are tried, then sixteen around the
// best of them; each is judged by the least-squares scale of the codes that it gives. A block that already is a
// multiple of the codes (a ternary model) keeps its values exactly: its codes are found by every candidate near its
// scale.
#pragma once

#include "codec/codec.h"
#include "codec/symmetric_search.h"

namespace tsubu {

template <int n>
struct SingleScale {
  Half d;
  uint8_t codes[n];  // as stored
};

// largest: the values of inverse candidate · max|x| tried first (the second sixteen lie between two of them).
// bound: of the relative error; a block that would exceed it has its largest magnitude rounded to the extreme code.
template <class L, class Codes, int n>
TSUBU_INLINE SingleScale<n> encode_single_scale(const float* x, const float* importance, const SymmetricGrid& largest,
                                                const SymmetricGrid& around, double bound) {
  SingleScale<n> out = {};
  Weighted<n> block;
  copy_clamped<L, n>(x, block);
  if (block.largest < kNegligible) {
    for (int i = 0; i < n; i += kLanes) L::store_u8(out.codes + i, Codes::template stored<L>(L::zero()));
    return out;
  }
  weigh<L, n>(importance, mean_square_of<L, n>(block), block);
  auto inverse = L::mul(L::load(largest.code), L::set1(1.0f / block.largest));
  float scale = 0;
  float gain = 0;
  for (int round = 0; round < 2; ++round) {
    const SymmetricFit<L> fit = fit_symmetric<L, Codes, n>(block.x, block.w, inverse);
    const int best = best_lane<L>(fit.gain);
    const float best_gain = lane<L>(fit.gain, best);
    if (best_gain > gain) {
      gain = best_gain;
      scale = lane<L>(fit.scale, best);
    }
    inverse = L::mul(L::load(around.code), L::set1(lane<L>(inverse, best)));
  }
  for (int attempt = 0; attempt < 2; ++attempt) {
    out.d = Half::of(scale);
    const float d = out.d.value();
    const auto factor = L::set1(d);
    const auto per_d = L::set1(d != 0 ? 1.0f / d : 0.0f);
    auto worst = L::zero();
    for (int i = 0; i < n; i += kLanes) {
      const auto v = L::load(block.x + i);
      const auto t = L::mul(v, per_d);
      L::store_u8(out.codes + i, Codes::template stored<L>(t));
      worst = L::max(worst, L::abs(L::sub(L::mul(factor, Codes::template nearest<L>(t)), v)));
    }
    if (L::hmax(worst) <= static_cast<float>(bound) * block.largest) break;
    scale = extreme_of<L, n>(block.x) / Codes::kHigh;
  }
  return out;
}

// The ternary formats' candidates: 0.75 … 12 and ± 20 %, evenly in the logarithm.
inline constexpr SymmetricGrid kTernaryLargest = {
    {0.75f, 0.9f, 1.09f, 1.31f, 1.57f, 1.89f, 2.27f, 2.73f, 3.29f, 3.96f, 4.76f, 5.73f, 6.89f, 8.29f, 9.97f, 12.0f}};
inline constexpr SymmetricGrid kSingleScaleAround = {{0.834f, 0.854f, 0.874f, 0.895f, 0.917f, 0.939f, 0.962f, 0.986f,
                                                      1.01f, 1.034f, 1.058f, 1.083f, 1.11f, 1.137f, 1.165f, 1.193f}};

// Plain rounding to -1, 0, 1 with the largest magnitude at 1: half a step; and the rounding of d to f16.
inline constexpr double kTernaryMaxRelativeError = kSearchSlack * (1.0 / 2 + 0x1p-10);

}  // namespace tsubu
