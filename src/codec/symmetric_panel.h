// Encoding of Q4_0, Q5_0 and IQ4_NL: 32 weights, one f16 scale, w = d · code, sixteen blocks side by side (codec/panel.h). As in
// codec/symmetric_search.h, a candidate says which code the extreme weight is put on, and the least-squares scale of the codes
// that it gives is judged by how much of the weighted squares it explains.
#pragma once

#include "codec/code_sets.h"
#include "codec/panel.h"

namespace tsubu {

// Σ w · code · x, Σ w · code², codes the nearest to x · inverse.
template <class L>
struct SymmetricSums {
  typename L::F product, two;
};
template <class L, class Codes, int n>
TSUBU_INLINE SymmetricSums<L> symmetric_sums(const Panel<n>& p, typename L::F inverse) {
  SymmetricSums<L> sums = {L::zero(), L::zero()};
#pragma GCC unroll 4
  for (int i = 0; i < n; ++i) {
    const auto v = L::load(p.x[i]);
    const auto code = Codes::template nearest_product<L>(v, inverse);
    const auto weighted = L::mul(L::load(p.w[i]), code);
    sums.product = L::fma(weighted, v, sums.product);
    sums.two = L::fma(weighted, code, sums.two);
  }
  return sums;
}

// The least-squares scales of the best candidates. per_extreme: 1 / the value of largest magnitude, or 0. on: the codes that it is
// put on.
template <class L, class Codes, int n, int n_grid>
TSUBU_INLINE typename L::F search_symmetric_panel(const Panel<n>& p, typename L::F per_extreme, const float (&on)[n_grid]) {
  auto best = L::zero(), most = L::zero();
#pragma GCC unroll 1
  for (int c = 0; c < n_grid; ++c) {
    const SymmetricSums<L> sums = symmetric_sums<L, Codes, n>(p, L::mul(per_extreme, L::set1(on[c])));
    const auto scale = L::div(sums.product, L::max(sums.two, L::set1(0x1p-60f)));
    const auto gain = L::mul(scale, sums.product);
    const auto better = L::gt(gain, most);
    best = L::select(better, scale, best);
    most = L::select(better, gain, most);
  }
  return best;
}

// n blocks of codec C, at most sixteen. on: codes that the extreme weight is put on. A block that would exceed the codec's bound of
// the relative error has its extreme rounded to the lowest code instead.
template <class C, class L, class Codes, int n_grid>
TSUBU_INLINE void encode_symmetric_panel(const float* x, const float* importance, const Row& row, typename C::Block* blocks, int n,
                                         const float (&on)[n_grid]) {
  constexpr int bits = requires(typename C::Block b) { b.qh; } ? 5 : 4;
  uint16_t d[kLanes];
  PanelCodes out;
  Panel<32> p;
  turn_blocks<L>(x, n, p.x);
  const PanelExtremes<L> e = weigh_panel<L>(importance, n, row, p);
  const auto visible = L::lt(L::set1(kNegligible), e.largest);
  const auto per_extreme = L::select(visible, L::div(L::set1(1.0f), e.extreme), L::zero());
  auto scale = L::select(visible, search_symmetric_panel<L, Codes, 32>(p, per_extreme, on), L::zero());
  const auto limit = L::mul(L::set1(static_cast<float>(C::kMaxRelativeError)), e.largest);
  for (int attempt = 0; attempt < 2; ++attempt) {
    const auto step = store_finite_f16<L>(d, scale);
    const auto inverse = L::select(L::gt(L::abs(step), L::zero()), L::div(L::set1(1.0f), step), L::zero());
    auto worst = L::zero();
    pack_panel<L, bits>(
        [&](int i) __attribute__((always_inline)) {
          const auto v = L::load(p.x[i]), t = L::mul(v, inverse);
          worst = L::max(worst, L::abs(L::sub(L::mul(step, Codes::template nearest<L>(t)), v)));
          return Codes::template stored<L>(t);
        },
        out);
    const auto beyond = L::lt(limit, worst);
    if (attempt > 0 || L::mask_bits(beyond) == 0) break;
    scale = L::select(beyond, L::mul(e.extreme, L::set1(1.0f / Codes::kLow)), scale);
  }
  for (int b = 0; b < n; ++b) {
    blocks[b].d = Half::of_bits(d[b]);
    out.copy_block(b, blocks[b]);
  }
}

}  // namespace tsubu
