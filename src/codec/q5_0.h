// Q5_0: 32 weights as 5-bit codes around zero with one f16 scale; 5.5 bits per weight.   w = d · (code - 16).
// Byte j of qs holds the low four bits of code j (low nibble) and of code j + 16 (high nibble); bit j of the
// little-endian word qh is the fifth bit of code j. Source: ggml's block_q5_0.
#pragma once

#include "codec/codec.h"
#include "codec/grid.h"
#include "codec/nibbles.h"
#include "codec/symmetric_panel.h"

namespace tsubu {

struct Q5_0 {
  static constexpr std::string_view kName = "Q5_0";
  static constexpr uint32_t kGgufId = 6;
  static constexpr uint32_t kBlockLen = 32;
  static constexpr bool kIsQuantized = true;
  static constexpr std::string_view kSummary = "5-bit, 32 weights a scale, symmetric";
  struct Block {
    Half d;
    uint8_t qh[4];
    uint8_t qs[16];
  };
  static_assert(sizeof(Block) == 22 && alignof(Block) == 1);

  static TSUBU_INLINE bool has_finite_scales(const Block& block) { return block.d.is_finite(); }

  template <class L>
  static TSUBU_INLINE void decode(const Block& block, float* y) {
    const auto d = L::set1(block.d.value());
    const auto sixteen = L::set1_i(16);
    const Codes32<L> codes = unpack_5bit<L>(block.qs, block.qh);
    L::store(y, L::mul(d, L::to_float(L::sub(codes.low, sixteen))));
    L::store(y + 16, L::mul(d, L::to_float(L::sub(codes.high, sixteen))));
  }

  // Plain rounding: a step (the largest magnitude is code -16, its mirror image ends at 15), and the rounding of d to
  // f16.
  static constexpr double kMaxRelativeError = kSearchSlack * (1.0 / 16 + 0x1p-11);
  template <class L>
  static TSUBU_INLINE void encode_panel(const float* x, const float* importance, const Row& row, Block* blocks, int n) {
    constexpr float kGrid[] = {-12.4f, -13.3f, -14.1f, -14.8f, -15.4f, -16.0f, -16.6f, -17.2f, -18.5f};
    encode_symmetric_panel<Q5_0, L, IntegerCodes<-16, 15>>(x, importance, row, blocks, n, kGrid);
  }

  static constexpr GridSpec kGridSpec = integer_grid<-16, 15>(32, 1);
  static TSUBU_INLINE Block pack(const GridBlock& k) {
    Block block;
    block.d = k.d;
    pack_codes<5>(k.codes, block.qs, block.qh);
    return block;
  }
  static TSUBU_INLINE void unpack(const Block& block, GridBlock& k) {
    k.d = block.d;
    k.dmin = Half::of_bits(0);
    k.scale[0] = 1;
    k.min[0] = 0;
    unpack_codes<5>(block.qs, block.qh, k.codes);
  }
};

}  // namespace tsubu
