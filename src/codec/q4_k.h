// Q4_K: 256 weights in 8 sub-blocks of 32; 4.5 bits per weight.
//   w = (d · scale) · code - dmin · min, codes 0 … 15, scales and minimums 0 … 63 (packed: codec/k_scales.h).
// Byte j of the c-th 32 bytes of qs holds code j of sub-block 2c (low nibble) and of sub-block 2c + 1 (high nibble).
// Source: ggml's block_q4_K.
#pragma once

#include "codec/affine_k.h"
#include "codec/codec.h"
#include "codec/grid.h"
#include "codec/k_scales.h"

namespace tsubu {

struct Q4_K {
  static constexpr std::string_view kName = "Q4_K";
  static constexpr uint32_t kGgufId = 12;
  static constexpr uint32_t kBlockLen = 256;
  static constexpr bool kIsQuantized = true;
  static constexpr std::string_view kSummary = "4-bit, 8 sub-blocks of 32 with 6-bit scales and minimums";
  static constexpr std::string_view kFallback = "Q5_0";
  struct Block {
    Half d;
    Half dmin;
    uint8_t scales[12];
    uint8_t qs[128];
  };
  static_assert(sizeof(Block) == 144 && alignof(Block) == 1);

  static TSUBU_INLINE bool has_finite_scales(const Block& b) { return b.d.is_finite() && b.dmin.is_finite(); }

  template <class L>
  static TSUBU_INLINE void decode(const Block& block, float* y) {
    const float d = block.d.value();
    const float dmin = block.dmin.value();
    const KScales s = unpack_k_scales(block.scales);
    for (int c = 0; c < 4; ++c) {
      const auto scale0 = L::set1(d * static_cast<float>(s.scale[2 * c]));
      const auto scale1 = L::set1(d * static_cast<float>(s.scale[2 * c + 1]));
      const auto min0 = L::set1(dmin * static_cast<float>(s.min[2 * c]));
      const auto min1 = L::set1(dmin * static_cast<float>(s.min[2 * c + 1]));
      for (int i = 0; i < 32; i += kLanes) {
        const auto bytes = L::load_u8(block.qs + 32 * c + i);
        const auto low = L::to_float(L::bit_and(bytes, L::set1_i(15)));
        const auto high = L::to_float(L::template shift_right<4>(bytes));
        L::store(y + 64 * c + i, L::sub(L::mul(scale0, low), min0));
        L::store(y + 64 * c + 32 + i, L::sub(L::mul(scale1, high), min1));
      }
    }
  }

  static constexpr double kMaxRelativeError = kSearchSlack * plain_affine_k_bound(15, 63);
  template <class L>
  static TSUBU_INLINE void encode_panel(const float* x, const float* importance, const Row&, Block* blocks, int n) {
    constexpr float kGrid[] = {-1.0f, -0.5f, 0.0f, 0.5f, 1.0f, 1.6f};
    encode_affine_k_rows<Q4_K, L, 32, 15, 63>(x, importance, n, kGrid, 1, 1, kMaxRelativeError, blocks);
  }

  static constexpr GridSpec kGridSpec = integer_grid<0, 15>(256, 8, {0, 63}, {0, 63});
  // k: a grid block, or what a search returns; codes count from the lowest level.
  template <class K>
  static TSUBU_INLINE Block pack(const K& k) {
    Block block;
    block.d = k.d;
    block.dmin = k.dmin;
    KScales s;
    for (int i = 0; i < 8; ++i) s.scale[i] = static_cast<uint8_t>(k.scale[i]), s.min[i] = static_cast<uint8_t>(k.min[i]);
    pack_k_scales(s, block.scales);
    for (int c = 0; c < 4; ++c)
      for (int j = 0; j < 32; ++j)
        block.qs[32 * c + j] = static_cast<uint8_t>(k.codes[64 * c + j] | k.codes[64 * c + 32 + j] << 4);
    return block;
  }
  static TSUBU_INLINE void unpack(const Block& block, GridBlock& k) {
    k.d = block.d;
    k.dmin = block.dmin;
    const KScales s = unpack_k_scales(block.scales);
    for (int i = 0; i < 8; ++i) k.scale[i] = s.scale[i], k.min[i] = s.min[i];
    for (int i = 0; i < 256; ++i) k.codes[i] = block.qs[i / 64 * 32 + i % 32] >> (4 * (i / 32 % 2)) & 15;
  }
};

}  // namespace tsubu
