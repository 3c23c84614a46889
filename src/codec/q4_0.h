// Q4_0: 32 weights as 4-bit codes around zero with one f16 scale; 4.5 bits per weight.
//   w = d · (code - 8). Byte j of qs holds code j in its low nibble and code j + 16 in its high one.
// Source: ggml's block_q4_0.
#pragma once

#include "codec/codec.h"
#include "codec/grid.h"
#include "codec/nibbles.h"
#include "codec/symmetric_panel.h"

namespace tsubu {

struct Q4_0 {
  static constexpr std::string_view kName = "Q4_0";
  static constexpr uint32_t kGgufId = 2;
  static constexpr uint32_t kBlockLen = 32;
  static constexpr bool kIsQuantized = true;
  static constexpr std::string_view kSummary = "4-bit, 32 weights a scale, symmetric";
  struct Block {
    Half d;
    uint8_t qs[16];
  };
  static_assert(sizeof(Block) == 18 && alignof(Block) == 1);

  static TSUBU_INLINE bool has_finite_scales(const Block& block) { return block.d.is_finite(); }

  template <class L>
  static TSUBU_INLINE void decode(const Block& block, float* y) {
    const auto d = L::set1(block.d.value());
    const auto bytes = L::load_u8(block.qs);
    const auto low = L::bit_and(bytes, L::set1_i(15));
    const auto high = L::template shift_right<4>(bytes);
    const auto eight = L::set1_i(8);
    L::store(y, L::mul(d, L::to_float(L::sub(low, eight))));
    L::store(y + 16, L::mul(d, L::to_float(L::sub(high, eight))));
  }

  // Plain rounding: a step (the largest magnitude is code -8, its mirror image ends at 7), and the rounding of d to
  // f16.
  static constexpr double kMaxRelativeError = kSearchSlack * (1.0 / 8 + 0x1p-11);
  template <class L>
  static TSUBU_INLINE void encode_panel(const float* x, const float* importance, const Row& row, Block* blocks, int n) {
    constexpr float kGrid[] = {-6.6f, -7.1f, -7.6f, -8.0f, -8.4f, -9.0f, -10.5f};
    encode_symmetric_panel<Q4_0, L, IntegerCodes<-8, 7>>(x, importance, row, blocks, n, kGrid);
  }

  static constexpr GridSpec kGridSpec = integer_grid<-8, 7>(32, 1);
  static TSUBU_INLINE Block pack(const GridBlock& k) {
    Block block;
    block.d = k.d;
    pack_codes<4>(k.codes, block.qs, nullptr);
    return block;
  }
  static TSUBU_INLINE void unpack(const Block& block, GridBlock& k) {
    k.d = block.d;
    k.dmin = Half::of_bits(0);
    k.scale[0] = 1;
    k.min[0] = 0;
    unpack_codes<4>(block.qs, nullptr, k.codes);
  }
};

}  // namespace tsubu
