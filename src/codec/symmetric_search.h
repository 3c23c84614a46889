// Scale search for x ≈ s · code over a code set (codec/code_sets.h): sixteen candidate scales at a time, one a lane.
// Sums run over the elements in order, so no reduction crosses lanes and the result is the same in every vocabulary.
#pragma once

#include "codec/code_sets.h"
#include "codec/weights.h"

namespace tsubu {

template <class L>
struct SymmetricFit {
  typename L::F scale;  // least-squares scale of each candidate's codes
  typename L::F gain;   // how much of Σ w x² it explains; 0 when all codes are 0
};

// The codes each inverse scale gives (of either sign) and the best scale for those codes.
template <class L, class Codes, int n>
TSUBU_INLINE SymmetricFit<L> fit_symmetric(const float* x, const float* w, typename L::F inverse) {
  auto xl = L::zero();
  auto ll = L::zero();
  for (int i = 0; i < n; ++i) {
    const auto v = L::set1(x[i]);
    const auto code = Codes::template nearest<L>(L::mul(v, inverse));
    const auto weighted = L::mul(L::set1(w[i]), code);
    xl = L::add(xl, L::mul(weighted, v));
    ll = L::add(ll, L::mul(weighted, code));
  }
  const auto scale = L::div(xl, L::max(ll, L::set1(0x1p-60f)));
  return {scale, L::mul(scale, xl)};
}

// Σ w (x - scale · code)² of each lane's scale.
template <class L, class Codes, int n>
TSUBU_INLINE typename L::F symmetric_error(const float* x, const float* w, typename L::F scale) {
  const auto usable = L::gt(L::abs(scale), L::set1(kNegligible));
  const auto inverse = L::select(usable, L::div(L::set1(1.0f), scale), L::zero());
  auto error = L::zero();
  for (int i = 0; i < n; ++i) {
    const auto v = L::set1(x[i]);
    const auto difference = L::sub(L::mul(scale, Codes::template nearest<L>(L::mul(v, inverse))), v);
    error = L::add(error, L::mul(L::mul(L::set1(w[i]), difference), difference));
  }
  return error;
}

// Candidates: which code (positive and negative) the largest magnitude is put on.
struct SymmetricGrid {
  float code[kLanes];
};

// The value of largest magnitude (the positive one of two).
template <class L, int n>
TSUBU_INLINE float extreme_of(const float* x) {
  auto low = L::load(x);
  auto high = low;
  for (int i = kLanes; i < n; i += kLanes) {
    low = L::min(low, L::load(x + i));
    high = L::max(high, L::load(x + i));
  }
  const float smallest = L::hmin(low);
  const float largest = L::hmax(high);
  return largest >= -smallest ? largest : smallest;
}

}  // namespace tsubu
