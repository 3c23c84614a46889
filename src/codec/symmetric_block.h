// Encoding of Q5_0 and IQ4_NL: 32 weights, one f16 scale, w = d · code.
#pragma once

#include "codec/codec.h"
#include "codec/nibbles.h"
#include "codec/symmetric_search.h"

namespace tsubu {

template <class L>
struct SymmetricBlock {
  Half d;
  Codes32<L> codes;  // as stored
};

// bound: of the relative error; a block that would exceed it has its largest magnitude rounded to the lowest code
// instead.
template <class L, class Codes>
TSUBU_INLINE SymmetricBlock<L> encode_symmetric_block(const float* x, const float* importance, const Row& row,
                                                      const SymmetricGrid& grid, double bound) {
  Weighted<32> block;
  copy_clamped<L, 32>(x, block);
  SymmetricBlock<L> out = {{}, {Codes::template stored<L>(L::zero()), Codes::template stored<L>(L::zero())}};
  if (block.largest < kNegligible) return out;
  weigh<L, 32>(importance, importance ? row.mean_square : mean_square_of<L, 32>(block), block);
  const auto low = L::load(block.x);
  const auto high = L::load(block.x + 16);
  float scale = search_symmetric<L, Codes, 32>(block.x, block.w, grid);
  for (int attempt = 0; attempt < 2; ++attempt) {
    out.d = Half::of(scale);
    const float d = out.d.value();
    const auto factor = L::set1(d);
    const auto inverse = L::set1(d != 0 ? 1.0f / d : 0.0f);
    const auto low_t = L::mul(low, inverse);
    const auto high_t = L::mul(high, inverse);
    out.codes = {Codes::template stored<L>(low_t), Codes::template stored<L>(high_t)};
    const auto low_error = L::abs(L::sub(L::mul(factor, Codes::template nearest<L>(low_t)), low));
    const auto high_error = L::abs(L::sub(L::mul(factor, Codes::template nearest<L>(high_t)), high));
    if (L::hmax(L::max(low_error, high_error)) <= static_cast<float>(bound) * block.largest) break;
    scale = extreme_of<L, 32>(block.x) / Codes::kLow;
  }
  return out;
}

}  // namespace tsubu
