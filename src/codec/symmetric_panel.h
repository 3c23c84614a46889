// Encoding of Q4_0: 32 weights, one f16 scale, w = d · code with codes -8 … 7. Sixteen blocks at a time, one in each lane, so
// that every step serves all of them and the candidates can be few and of any number. As in codec/symmetric_search.h, a
// candidate says which code the extreme weight is put on, and the least-squares scale of the codes that it gives is judged by
// how much of the weighted squares it explains.
#pragma once

#include "codec/codec.h"
#include "codec/symmetric_search.h"

namespace tsubu {

inline constexpr int kPanelBlocks = kLanes;  // blocks of a panel

// Element i of every block, lane by lane.
struct SymmetricPanel {
  float x[32][kLanes];
  float w[32][kLanes];
};

// n blocks of 32 values; those that are not there are zeros.
template <class L>
TSUBU_INLINE void turn_panel(const float* x, int n, float (*out)[kLanes]) {
  const float* from = x;
  float some[kPanelBlocks * 32];
  if (n < kPanelBlocks) {
    for (int i = 0; i < kPanelBlocks * 32; i += kLanes) L::store(some + i, i < 32 * n ? L::load(x + i) : L::zero());
    from = some;
  }
  L::transpose(from, 32, out[0], kLanes);
  L::transpose(from + 16, 32, out[16], kLanes);
}

template <class L>
struct PanelExtremes {
  typename L::F largest;  // max |x|
  typename L::F extreme;  // the value of largest magnitude (the positive one of two)
};

// Clamps x to what no scale overflows on, and makes weights of mean one of it (as copy_clamped and weigh do).
template <class L>
TSUBU_INLINE PanelExtremes<L> weigh_panel(const float* importance, int n, const Row& row, SymmetricPanel& p) {
  const auto limit = L::set1(kOverflow);
  auto low = L::zero(), high = L::zero(), squares = L::zero();
  for (int i = 0; i < 32; ++i) {
    const auto v = L::max(L::min(L::load(p.x[i]), limit), L::neg(limit));
    L::store(p.x[i], v);
    low = L::min(low, v);
    high = L::max(high, v);
    squares = L::fma(v, v, squares);
  }
  const auto level = importance ? L::set1(row.mean_square) : L::mul(squares, L::set1(1.0f / 32));
  if (importance) turn_panel<L>(importance, n, p.w);
  auto sum = L::zero();
  for (int i = 0; i < 32; ++i) {
    const auto v = L::load(p.x[i]);
    auto w = L::sqrt(L::fma(v, v, level));
    if (importance) w = L::mul(L::load(p.w[i]), w);
    L::store(p.w[i], w);
    sum = L::add(sum, w);
  }
  const auto mean = L::mul(sum, L::set1(1.0f / 32));
  const uint32_t usable_bits = L::mask_bits(L::gt(mean, L::set1(0x1p-100f))) & L::mask_bits(L::lt(mean, L::set1(0x1p100f)));
  const auto usable = L::mask_of(usable_bits);  // else the importance says nothing: all the same
  const auto scale = L::select(usable, L::div(L::set1(1.0f), mean), L::zero());
  const auto floor = L::select(usable, L::set1(0x1p-20f), L::set1(1.0f));
  for (int i = 0; i < 32; ++i) {
    const auto w = L::select(usable, L::load(p.w[i]), L::zero());
    L::store(p.w[i], L::fma(w, scale, floor));
  }
  const auto down = L::neg(low);
  return {L::max(high, down), L::select(L::lt(high, down), low, high)};
}

template <class L>
struct PanelFit {
  typename L::F scale, gain;
};

// The extreme on code -`candidate`: what is left of the clamping to -8 … 7 where it can matter.
template <class L>
TSUBU_INLINE typename L::F code_under(typename L::F t, float candidate) {
  if (candidate >= 7.5f) t = L::min(t, L::set1(7.0f));
  if (candidate >= 8.5f) t = L::max(t, L::set1(-8.0f));
  return L::round(t);
}

// Tries one more candidate.
template <class L>
TSUBU_INLINE void try_candidate(const SymmetricPanel& p, typename L::F per_extreme, float candidate, PanelFit<L>& best) {
  const auto inverse = L::mul(per_extreme, L::set1(-candidate));
  auto xl = L::zero(), ll = L::zero();
#pragma GCC unroll 4
  for (int i = 0; i < 32; ++i) {
    const auto v = L::load(p.x[i]);
    const auto code = code_under<L>(L::mul(v, inverse), candidate);
    const auto weighted = L::mul(L::load(p.w[i]), code);
    xl = L::fma(weighted, v, xl);
    ll = L::fma(weighted, code, ll);
  }
  const auto scale = L::div(xl, L::max(ll, L::set1(0x1p-60f)));
  const auto gain = L::mul(scale, xl);
  const auto better = L::gt(gain, best.gain);
  best.scale = L::select(better, scale, best.scale);
  best.gain = L::select(better, gain, best.gain);
}

// Four-bit codes (stored as code + 8) and scales of up to sixteen blocks.
struct PanelCodes {
  uint16_t d[kLanes];
  uint32_t qs[4][kLanes];  // bytes 4 j … 4 j + 3 of a block's nibbles
};

// bound: of the relative error; a block that would exceed it has its extreme rounded to code -8 instead.
template <class L>
TSUBU_INLINE void round_panel(const SymmetricPanel& p, const PanelExtremes<L>& e, typename L::F scale, double bound, PanelCodes& out) {
  const auto limit = L::mul(L::set1(static_cast<float>(bound)), e.largest), most = L::set1(65504.0f);
  for (int attempt = 0; attempt < 2; ++attempt) {
    L::store_f16(out.d, L::max(L::min(scale, most), L::neg(most)));
    const auto d = L::load_f16(out.d);
    const auto usable = L::gt(L::abs(d), L::zero());
    const auto inverse = L::select(usable, L::div(L::set1(1.0f), d), L::zero());
    auto worst = L::zero();
    const auto code_of = [&](int i) __attribute__((always_inline)) {
      const auto v = L::load(p.x[i]);
      const auto code = L::round(L::max(L::min(L::mul(v, inverse), L::set1(7.0f)), L::set1(-8.0f)));
      worst = L::max(worst, L::abs(L::sub(L::mul(d, code), v)));
      return L::to_int(L::add(code, L::set1(8.0f)));
    };
    for (int j = 0; j < 4; ++j) {
      auto word = L::set1_i(0);
      for (int i = 3; i >= 0; --i) {
        const auto byte = L::bit_or(code_of(4 * j + i), L::template shift_left<4>(code_of(4 * j + i + 16)));
        word = L::bit_or(L::template shift_left<8>(word), byte);
      }
      L::store_i(reinterpret_cast<int32_t*>(out.qs[j]), word);
    }
    const auto beyond = L::lt(limit, worst);
    if (attempt > 0 || L::mask_bits(beyond) == 0) return;
    scale = L::select(beyond, L::mul(e.extreme, L::set1(-1.0f / 8)), scale);
  }
}

}  // namespace tsubu
