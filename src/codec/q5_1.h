// Q5_1: 32 weights as unsigned 5-bit codes with an f16 scale and an f16 minimum; 6 bits per weight.   w = d · code + m.
// The codes are stored as in Q5_0. Source: ggml's block_q5_1.
#pragma once

#include "codec/affine_panel.h"
#include "codec/codec.h"
#include "codec/grid.h"
#include "codec/nibbles.h"

namespace tsubu {

struct Q5_1 {
  static constexpr std::string_view kName = "Q5_1";
  static constexpr uint32_t kGgufId = 7;
  static constexpr uint32_t kBlockLen = 32;
  static constexpr bool kIsQuantized = true;
  static constexpr std::string_view kSummary = "5-bit, 32 weights a scale and minimum";
  struct Block {
    Half d;
    Half m;
    uint8_t qh[4];
    uint8_t qs[16];
  };
  static_assert(sizeof(Block) == 24 && alignof(Block) == 1);

  static TSUBU_INLINE bool has_finite_scales(const Block& block) { return block.d.is_finite() && block.m.is_finite(); }

  template <class L>
  static TSUBU_INLINE void decode(const Block& block, float* y) {
    const auto d = L::set1(block.d.value());
    const auto m = L::set1(block.m.value());
    const Codes32<L> codes = unpack_5bit<L>(block.qs, block.qh);
    L::store(y, L::add(L::mul(d, L::to_float(codes.low)), m));
    L::store(y + 16, L::add(L::mul(d, L::to_float(codes.high)), m));
  }

  // A step where plain rounding keeps half of one (the range is at most twice the largest magnitude); and the rounding
  // of d (up to 2 · 2^-11) and m to f16.
  static constexpr double kMaxRelativeError = kSearchSlack * (1.0 / 31 + 3 * 0x1p-11);
  template <class L>
  static TSUBU_INLINE void encode_panel(const float* x, const float* importance, const Row& row, Block* blocks, int n) {
    encode_affine_panel<Q5_1, L>(x, importance, row, blocks, n);
  }

  static constexpr GridSpec kGridSpec = integer_grid<0, 31>(32, 1, {}, {1, 1});
  static TSUBU_INLINE Block pack(const GridBlock& k) {
    Block block;
    block.d = k.d;
    block.m = Half::of_bits(k.dmin.bits() ^ 0x8000u);  // m = -dmin
    pack_codes<5>(k.codes, block.qs, block.qh);
    return block;
  }
  static TSUBU_INLINE void unpack(const Block& block, GridBlock& k) {
    k.d = block.d;
    k.dmin = Half::of_bits(block.m.bits() ^ 0x8000u);
    k.scale[0] = 1;
    k.min[0] = 1;
    unpack_codes<5>(block.qs, block.qh, k.codes);
  }
};

}  // namespace tsubu
