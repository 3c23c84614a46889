// How much each weight's error counts while a codec searches for its scales, and the preparation of a block for the
// search.
#pragma once

#include "codec/lanes.h"

namespace tsubu {

// Below the first no f16 scale is left for a block; the second is beyond what any codec's largest scale reaches.
inline constexpr float kNegligible = 0x1p-40f;
inline constexpr float kOverflow = 0x1p30f;

// A search may leave an outlier further out than plain rounding would, for the others' sake; beyond this many times
// plain rounding's bound the block is rounded plainly.
inline constexpr double kSearchSlack = 2;

// The weight of an error: importance (mean squared activation of the column), times a factor that grows with the
// weight's own size so that outliers stay in range. The factor is empirical; llama.cpp's importance-weighted quantizers
// use it too.
template <class L>
TSUBU_INLINE typename L::F error_weight(typename L::F importance, typename L::F mean_square, typename L::F x) {
  return L::mul(importance, L::sqrt(L::add(mean_square, L::mul(x, x))));
}

// A block ready for a scale search: finite values that no scale overflows on, and weights whose mean is one.
template <int n>
struct Weighted {
  float x[n];
  float w[n];
  float largest;  // max |x|
};

// The n values of x into `to`; max |x|.
template <class L, int n>
TSUBU_INLINE float copy_clamped(const float* x, float* to) {
  auto largest = L::zero();
  const auto limit = L::set1(kOverflow);
  for (int i = 0; i < n; i += kLanes) {
    const auto v = L::max(L::min(L::load(x + i), limit), L::neg(limit));
    L::store(to + i, v);
    largest = L::max(largest, L::abs(v));
  }
  return L::hmax(largest);
}
template <class L, int n>
TSUBU_INLINE void copy_clamped(const float* x, Weighted<n>& block) {
  block.largest = copy_clamped<L, n>(x, block.x);
}

// importance may be nullptr: every column counts the same. mean_square scales the size factor (of the block or the
// row).
template <class L, int n>
TSUBU_INLINE void weigh(const float* importance, float mean_square, const float* x, float* weights) {
  const auto level = L::set1(mean_square);
  auto sum = L::zero();
  for (int i = 0; i < n; i += kLanes) {
    const auto q = importance ? L::load(importance + i) : L::set1(1.0f);
    const auto w = error_weight<L>(q, level, L::load(x + i));
    L::store(weights + i, w);
    sum = L::add(sum, w);
  }
  const float mean = L::hsum(sum) * (1.0f / n);
  const bool usable = mean > 0x1p-100f && mean < 0x1p100f;  // else the importance says nothing: all the same
  // Columns that were never active still count a little, so that they end near their values.
  const auto scale = L::set1(usable ? 1.0f / mean : 0.0f);
  const auto floor = L::set1(usable ? 0x1p-20f : 1.0f);
  for (int i = 0; i < n; i += kLanes) {
    const auto w = usable ? L::load(weights + i) : L::zero();
    L::store(weights + i, L::add(L::mul(w, scale), floor));
  }
}
template <class L, int n>
TSUBU_INLINE void weigh(const float* importance, float mean_square, Weighted<n>& block) {
  weigh<L, n>(importance, mean_square, block.x, block.w);
}

template <class L, int n>
TSUBU_INLINE float mean_square_of(const float* x) {
  auto sum = L::zero();
  for (int i = 0; i < n; i += kLanes) {
    const auto v = L::load(x + i);
    sum = L::add(sum, L::mul(v, v));
  }
  return L::hsum(sum) * (1.0f / n);
}
template <class L, int n>
TSUBU_INLINE float mean_square_of(const Weighted<n>& block) {
  return mean_square_of<L, n>(block.x);
}

// 1.5·2^23: a sum with it has no digits to the right of the point.
inline constexpr float kToInteger = 12582912.0f;

// v · inverse rounded to the nearest of the integers low … high, in one rounding. It may be far out of that range.
template <class L>
TSUBU_INLINE typename L::F round_product_within(typename L::F v, typename L::F inverse, float low, float high) {
  const auto shifted = L::fma(v, inverse, L::set1(kToInteger));
  return L::sub(L::max(L::min(shifted, L::set1(kToInteger + high)), L::set1(kToInteger + low)), L::set1(kToInteger));
}

// The lowest lane that holds the largest value.
template <class L>
TSUBU_INLINE int best_lane(typename L::F value) {
  const uint32_t smaller = L::mask_bits(L::lt(value, L::set1(L::hmax(value))));
  return __builtin_ctz((~smaller & 0xffffu) | 0x8000u);
}

template <class L>
TSUBU_INLINE float lane(typename L::F value, int index) {
  float v[kLanes];
  L::store(v, value);
  return v[index];
}

// v rounded to the nearest of the integers low … high.
template <class L>
TSUBU_INLINE typename L::F round_within(typename L::F v, float low, float high) {
  return L::round(L::max(L::min(v, L::set1(high)), L::set1(low)));
}

}  // namespace tsubu
