// Encoding of Q4_1 and Q5_1: 32 weights, an f16 scale and an f16 minimum, w = d · code + m.
#pragma once

#include "codec/affine_search.h"
#include "codec/codec.h"
#include "codec/nibbles.h"

namespace tsubu {

template <class L>
struct AffineBlock {
  Half d;
  Half m;
  Codes32<L> codes;
};

// bound: of the relative error; a block that would exceed it is rounded plainly between its smallest and largest value.
template <class L, int high>
TSUBU_INLINE AffineBlock<L> encode_affine_block(const float* x, const float* importance, const Row& row,
                                                const AffineGrid& grid, int n_refine, double bound) {
  Weighted<32> block;
  copy_clamped<L, 32>(x, block);
  AffineBlock<L> out = {{}, {}, {L::set1_i(0), L::set1_i(0)}};
  if (block.largest < kNegligible) return out;
  weigh<L, 32>(importance, importance ? row.mean_square : mean_square_of<L, 32>(block), block);
  const auto first = L::load(block.x);
  const auto second = L::load(block.x + 16);
  AffineScale fit = search_affine<L, 32, false>(block.x, block.w, static_cast<float>(high), grid, n_refine);
  for (int attempt = 0; attempt < 2; ++attempt) {
    out.d = Half::of(fit.scale);
    out.m = Half::of(fit.min);
    const float d = out.d.value();
    const auto scale = L::set1(d);
    const auto min = L::set1(out.m.value());
    const auto inverse = L::set1(d != 0 ? 1.0f / d : 0.0f);
    const auto a = round_within<L>(L::mul(L::sub(first, min), inverse), 0.0f, static_cast<float>(high));
    const auto b = round_within<L>(L::mul(L::sub(second, min), inverse), 0.0f, static_cast<float>(high));
    out.codes = {L::to_int(a), L::to_int(b)};
    const auto a_error = L::abs(L::sub(L::add(L::mul(scale, a), min), first));
    const auto b_error = L::abs(L::sub(L::add(L::mul(scale, b), min), second));
    if (L::hmax(L::max(a_error, b_error)) <= static_cast<float>(bound) * block.largest) break;
    fit.min = L::hmin(L::min(first, second));
    fit.scale = (L::hmax(L::max(first, second)) - fit.min) / high;
  }
  return out;
}

}  // namespace tsubu
