// Q2_K: 256 weights in 16 sub-blocks of 16; 2.625 bits per weight.
//   w = (d · scale) · code - dmin · min, codes 0 … 3; scales[s] holds scale (low nibble) and minimum (high nibble) of
//   sub-block s. Weight 128 h + 32 r + j has its code in bits 2r, 2r + 1 of qs[32 h + j]. Source: ggml's block_q2_K.
#pragma once

#include "codec/affine_k.h"
#include "codec/codec.h"
#include "codec/grid.h"

namespace tsubu {

struct Q2_K {
  static constexpr std::string_view kName = "Q2_K";
  static constexpr uint32_t kGgufId = 10;
  static constexpr uint32_t kBlockLen = 256;
  static constexpr bool kIsQuantized = true;
  static constexpr std::string_view kSummary = "2-bit, 16 sub-blocks of 16 with 4-bit scales and minimums";
  static constexpr std::string_view kFallback = "Q4_0";
  struct Block {
    uint8_t scales[16];
    uint8_t qs[64];
    Half d;
    Half dmin;
  };
  static_assert(sizeof(Block) == 84 && alignof(Block) == 1);

  static TSUBU_INLINE bool has_finite_scales(const Block& b) { return b.d.is_finite() && b.dmin.is_finite(); }

  template <class L>
  static TSUBU_INLINE void decode(const Block& block, float* y) {
    const float d = block.d.value();
    const float dmin = block.dmin.value();
    for (int i = 0; i < 64; i += kLanes) {
      const auto bytes = L::load_u8(block.qs + i);
      const int first = i / 32 * 128 + i % 32;  // weight of lane 0 at r = 0
      for (int r = 0; r < 4; ++r) {
        const uint8_t s = block.scales[first / 16 + 2 * r];
        const auto scale = L::set1(d * static_cast<float>(s & 15));
        const auto min = L::set1(dmin * static_cast<float>(s >> 4));
        const auto code = L::to_float(L::bit_and(L::shift_right(bytes, 2 * r), L::set1_i(3)));
        L::store(y + first + 32 * r, L::sub(L::mul(scale, code), min));
      }
    }
  }

  static constexpr double kMaxRelativeError = kSearchSlack * plain_affine_k_bound(3, 15);
  template <class L>
  static TSUBU_INLINE void encode_panel(const float* x, const float* importance, const Row&, Block* blocks, int n) {
    constexpr float kGrid[] = {-1.2f, -0.8f, -0.4f, 0.0f, 0.4f, 0.8f, 1.3f, 2.0f};
    encode_affine_k_rows<Q2_K, L, 16, 3, 15>(x, importance, n, kGrid, 1, 2, kMaxRelativeError, blocks);
  }

  static constexpr GridSpec kGridSpec = integer_grid<0, 3>(256, 16, {0, 15}, {0, 15});
  // k: a grid block, or what a search returns; codes count from the lowest level.
  template <class K>
  static TSUBU_INLINE Block pack(const K& k) {
    Block block;
    block.d = k.d;
    block.dmin = k.dmin;
    for (int i = 0; i < 16; ++i) block.scales[i] = static_cast<uint8_t>(k.scale[i] | k.min[i] << 4);
    for (int h = 0; h < 2; ++h)
      for (int j = 0; j < 32; ++j) {
        const uint8_t* c = k.codes + 128 * h + j;
        block.qs[32 * h + j] = static_cast<uint8_t>(c[0] | c[32] << 2 | c[64] << 4 | c[96] << 6);
      }
    return block;
  }
  static TSUBU_INLINE void unpack(const Block& block, GridBlock& k) {
    k.d = block.d;
    k.dmin = block.dmin;
    for (int s = 0; s < 16; ++s) k.scale[s] = block.scales[s] & 15, k.min[s] = block.scales[s] >> 4;
    for (int i = 0; i < 256; ++i)
      k.codes[i] = block.qs[i / 128 * 32 + i % 32] >> (2 * (i / 32 % 4)) & 3;
  }
};

}  // namespace tsubu
