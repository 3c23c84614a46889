// Q3_K: 256 weights in 16 sub-blocks of 16; 3.4375 bits per weight.
//   w = (d · (scale - 32)) · (code - 4), codes 0 … 7, scales 0 … 63.
// Weight 128 h + 32 r + j has its low two bits in bits 2r, 2r + 1 of qs[32 h + j] and its third in bit 4h + r of
// hmask[j]. scales: the low four bits of scale s < 8 are the low nibble of byte s, those of scale 8 + s its high
// nibble; the top two bits of scale s are bits 2 (s / 4), 2 (s / 4) + 1 of byte 8 + s % 4. Source: ggml's block_q3_K.
#pragma once

#include "codec/codec.h"
#include "codec/grid.h"
#include "codec/symmetric_k.h"

namespace tsubu {

struct Q3_K {
  static constexpr std::string_view kName = "Q3_K";
  static constexpr uint32_t kGgufId = 11;
  static constexpr uint32_t kBlockLen = 256;
  static constexpr bool kIsQuantized = true;
  static constexpr std::string_view kSummary = "3-bit, 16 sub-blocks of 16 with 6-bit scales, symmetric";
  static constexpr std::string_view kFallback = "Q4_0";
  struct Block {
    uint8_t hmask[32];
    uint8_t qs[64];
    uint8_t scales[12];
    Half d;
  };
  static_assert(sizeof(Block) == 110 && alignof(Block) == 1);

  static TSUBU_INLINE bool has_finite_scales(const Block& block) { return block.d.is_finite(); }

  static TSUBU_INLINE int scale_of(const Block& block, int s) {
    const int low = s < 8 ? block.scales[s] & 15 : block.scales[s - 8] >> 4;
    const int high = block.scales[8 + s % 4] >> (2 * (s / 4)) & 3;
    return (low | high << 4) - 32;
  }

  template <class L>
  static TSUBU_INLINE void decode(const Block& block, float* y) {
    const float d = block.d.value();
    for (int i = 0; i < 64; i += kLanes) {
      const auto bytes = L::load_u8(block.qs + i);
      const auto third = L::load_u8(block.hmask + i % 32);
      const int first = i / 32 * 128 + i % 32;  // weight of lane 0 at r = 0
      for (int r = 0; r < 4; ++r) {
        const auto scale = L::set1(d * static_cast<float>(scale_of(block, first / 16 + 2 * r)));
        const auto low = L::bit_and(L::shift_right(bytes, 2 * r), L::set1_i(3));
        const auto high = L::bit_and(L::shift_right(third, i / 32 * 4 + r), L::set1_i(1));
        const auto code = L::bit_or(low, L::template shift_left<2>(high));
        L::store(y + first + 32 * r, L::mul(scale, L::to_float(L::sub(code, L::set1_i(4)))));
      }
    }
  }

  // Plain rounding: a step (the largest magnitude is code -4, its mirror image ends at 3), a unit of the scale (1/32 of
  // the largest; its mirror image is cut to 31) times four codes, and the rounding of d to f16.
  static constexpr double kMaxRelativeError = kSearchSlack * (1.0 / 4 + 1.0 / 32 + 0x1p-10);
  template <class L>
  static TSUBU_INLINE void encode_panel(const float* x, const float* importance, const Row&, Block* blocks, int n) {
    // Codes that a sub-block's extreme is put on, and what is added to its rounded scale.
    constexpr float kGrid[] = {2.4f, 2.8f, 3.2f, 3.7f, 4.3f, 5.2f, -2.4f, -2.8f, -3.2f, -3.6f, -4.0f, -4.5f, -5.4f};
    constexpr float kNear[] = {0, -1, 1, -2, 2};
    encode_symmetric_k_rows<Q3_K, L, IntegerCodes<-4, 3>, 16, -32, 31>(x, importance, n, kGrid, kNear, kMaxRelativeError, blocks);
  }

  static constexpr GridSpec kGridSpec = integer_grid<-4, 3>(256, 16, {-32, 31});
  // k: a grid block, or what a search returns; codes count from the lowest level.
  template <class K>
  static TSUBU_INLINE Block pack(const K& k) {
    Block block;
    block.d = k.d;
    uint8_t s[16];
    for (int i = 0; i < 16; ++i) s[i] = static_cast<uint8_t>(k.scale[i] + 32);
    for (int i = 0; i < 8; ++i) block.scales[i] = static_cast<uint8_t>((s[i] & 15) | (s[8 + i] & 15) << 4);
    for (int i = 0; i < 4; ++i)
      block.scales[8 + i] =
          static_cast<uint8_t>(s[i] >> 4 | (s[4 + i] >> 4) << 2 | (s[8 + i] >> 4) << 4 | (s[12 + i] >> 4) << 6);
    for (int h = 0; h < 2; ++h)
      for (int j = 0; j < 32; ++j) {
        const uint8_t* c = k.codes + 128 * h + j;
        block.qs[32 * h + j] =
            static_cast<uint8_t>((c[0] & 3) | (c[32] & 3) << 2 | (c[64] & 3) << 4 | (c[96] & 3) << 6);
      }
    for (int j = 0; j < 32; ++j) {
      unsigned bits = 0;
      for (int r = 0; r < 8; ++r) bits |= static_cast<unsigned>(k.codes[32 * r + j] >> 2) << r;
      block.hmask[j] = static_cast<uint8_t>(bits);
    }
    return block;
  }
  static TSUBU_INLINE void unpack(const Block& block, GridBlock& k) {
    k.d = block.d;
    k.dmin = Half::of_bits(0);
    for (int s = 0; s < 16; ++s) k.scale[s] = static_cast<int16_t>(scale_of(block, s)), k.min[s] = 0;
    for (int i = 0; i < 256; ++i)
      k.codes[i] = static_cast<uint8_t>((block.qs[i / 128 * 32 + i % 32] >> (2 * (i / 32 % 4)) & 3) |
                                        (block.hmask[i % 32] >> (i / 32) & 1) << 2);
  }
};

}  // namespace tsubu
