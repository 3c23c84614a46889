// Q6_K: 256 weights in 16 sub-blocks of 16; 6.5625 bits per weight.
//   w = (d · scale) · (code - 32), codes 0 … 63, scales signed 8-bit.
// Weight 128 h + 32 r + j: its low four bits are the low (r < 2) or high nibble of ql[64 h + 32 (r % 2) + j], its top
// two bits are bits 2r, 2r + 1 of qh[32 h + j]. Source: ggml's block_q6_K.
#pragma once

#include "codec/codec.h"
#include "codec/grid.h"
#include "codec/symmetric_k.h"

namespace tsubu {

struct Q6_K {
  static constexpr std::string_view kName = "Q6_K";
  static constexpr uint32_t kGgufId = 14;
  static constexpr uint32_t kBlockLen = 256;
  static constexpr bool kIsQuantized = true;
  static constexpr std::string_view kSummary = "6-bit, 16 sub-blocks of 16 with 8-bit scales, symmetric";
  static constexpr std::string_view kFallback = "Q8_0";
  struct Block {
    uint8_t ql[128];
    uint8_t qh[64];
    int8_t scales[16];
    Half d;
  };
  static_assert(sizeof(Block) == 210 && alignof(Block) == 1);

  static TSUBU_INLINE bool has_finite_scales(const Block& block) { return block.d.is_finite(); }

  template <class L>
  static TSUBU_INLINE void decode(const Block& block, float* y) {
    const float d = block.d.value();
    for (int i = 0; i < 64; i += kLanes) {
      const int half = i / 32;
      const int first = 128 * half + i % 32;  // weight of lane 0 at r = 0
      const auto top = L::load_u8(block.qh + i);
      for (int r = 0; r < 4; ++r) {
        const auto nibbles = L::load_u8(block.ql + 64 * half + 32 * (r % 2) + i % 32);
        const auto low = L::bit_and(L::shift_right(nibbles, r / 2 * 4), L::set1_i(15));
        const auto high = L::bit_and(L::shift_right(top, 2 * r), L::set1_i(3));
        const auto code = L::bit_or(low, L::template shift_left<4>(high));
        const auto scale = L::set1(d * static_cast<float>(block.scales[first / 16 + 2 * r]));
        L::store(y + first + 32 * r, L::mul(scale, L::to_float(L::sub(code, L::set1_i(32)))));
      }
    }
  }

  // Plain rounding: a step (the largest magnitude is code -32, its mirror image ends at 31), a unit of the scale (1/128
  // of the largest; its mirror image is cut to 127) times 32 codes, and the rounding of d to f16.
  static constexpr double kMaxRelativeError = kSearchSlack * (1.0 / 32 + 1.0 / 128 + 0x1p-10);
  template <class L>
  static TSUBU_INLINE void encode_panel(const float* x, const float* importance, const Row&, Block* blocks, int n) {
    // Codes that a sub-block's extreme is put on, and what is added to its rounded scale.
    constexpr float kGrid[] = {-26, -28, -29.3f, -30.3f, -31, -31.7f, -32.4f, -33.5f, -36};
    constexpr float kNear[] = {0};
    encode_symmetric_k_rows<Q6_K, L, IntegerCodes<-32, 31>, 16, -128, 127>(x, importance, n, kGrid, kNear, kMaxRelativeError, blocks);
  }

  static constexpr GridSpec kGridSpec = integer_grid<-32, 31>(256, 16, {-128, 127});
  // k: a grid block, or what a search returns; codes count from the lowest level.
  template <class K>
  static TSUBU_INLINE Block pack(const K& k) {
    Block block;
    block.d = k.d;
    for (int i = 0; i < 16; ++i) block.scales[i] = static_cast<int8_t>(k.scale[i]);
    for (int h = 0; h < 2; ++h)
      for (int j = 0; j < 32; ++j) {
        const uint8_t* c = k.codes + 128 * h + j;
        block.ql[64 * h + j] = static_cast<uint8_t>((c[0] & 15) | (c[64] & 15) << 4);
        block.ql[64 * h + 32 + j] = static_cast<uint8_t>((c[32] & 15) | (c[96] & 15) << 4);
        block.qh[32 * h + j] =
            static_cast<uint8_t>(c[0] >> 4 | (c[32] >> 4) << 2 | (c[64] >> 4) << 4 | (c[96] >> 4) << 6);
      }
    return block;
  }
  static TSUBU_INLINE void unpack(const Block& block, GridBlock& k) {
    k.d = block.d;
    k.dmin = Half::of_bits(0);
    for (int s = 0; s < 16; ++s) k.scale[s] = block.scales[s], k.min[s] = 0;
    for (int i = 0; i < 256; ++i) {
      const int half = i / 128, r = i / 32 % 4, j = i % 32;
      const int low = block.ql[64 * half + 32 * (r % 2) + j] >> (r / 2 * 4) & 15;
      k.codes[i] = static_cast<uint8_t>(low | (block.qh[32 * half + j] >> (2 * r) & 3) << 4);
    }
  }
};

}  // namespace tsubu
