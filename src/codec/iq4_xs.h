// IQ4_XS: 256 weights in 8 sub-blocks of 32, indices into sixteen unevenly spaced levels; 4.25 bits per weight.
//   w = (d · (scale - 32)) · level[code] (codec/iq4.h), scales 0 … 63: the low four bits of scale s are nibble s of
//   scales_l (low nibble first), the top two are bits 2s, 2s + 1 of the little-endian word scales_h.
// The 16 bytes of a sub-block hold its codes as Q4_0 does. Source: ggml's block_iq4_xs.
#pragma once

#include "codec/codec.h"
#include "codec/grid.h"
#include "codec/iq4.h"
#include "codec/nibbles.h"
#include "codec/symmetric_k.h"

namespace tsubu {

struct IQ4_XS {
  static constexpr std::string_view kName = "IQ4_XS";
  static constexpr uint32_t kGgufId = 23;
  static constexpr uint32_t kBlockLen = 256;
  static constexpr bool kIsQuantized = true;
  static constexpr std::string_view kSummary = "4-bit non-linear, 8 sub-blocks of 32 with 6-bit scales";
  static constexpr std::string_view kFallback = "IQ4_NL";
  struct Block {
    Half d;
    uint8_t scales_h[2];
    uint8_t scales_l[4];
    uint8_t qs[128];
  };
  static_assert(sizeof(Block) == 136 && alignof(Block) == 1);

  static TSUBU_INLINE bool has_finite_scales(const Block& block) { return block.d.is_finite(); }

  template <class L>
  static TSUBU_INLINE void decode(const Block& block, float* y) {
    const float d = block.d.value();
    const int high = block.scales_h[0] | block.scales_h[1] << 8;
    for (int s = 0; s < 8; ++s) {
      const int low = block.scales_l[s / 2] >> (4 * (s % 2)) & 15;
      const auto scale = L::set1(d * static_cast<float>((low | (high >> (2 * s) & 3) << 4) - 32));
      const Codes32<L> codes = unpack_4bit<L>(block.qs + 16 * s);
      L::store(y + 32 * s, L::mul(scale, L::lookup16(kIq4Levels, codes.low)));
      L::store(y + 32 * s + 16, L::mul(scale, L::lookup16(kIq4Levels, codes.high)));
    }
  }

  // Plain rounding: the largest magnitude is level -127, its mirror image ends at 113; a unit of the scale (1/32 of the
  // largest; its mirror image is cut to 31) times 127, and the rounding of d to f16.
  static constexpr double kMaxRelativeError = kSearchSlack * (14.0 / 127 + 1.0 / 32 + 0x1p-10);
  template <class L>
  static TSUBU_INLINE void encode_panel(const float* x, const float* importance, const Row&, Block* blocks, int n) {
    // Codes that a sub-block's extreme is put on, and what is added to its rounded scale.
    constexpr float kGrid[] = {88, 97, 105, 113, 120, 130, 150, -90, -98, -106, -113, -120, -127, -135, -150};
    constexpr float kNear[] = {0, -1, 1};
    encode_symmetric_k_rows<IQ4_XS, L, Iq4Codes, 32, -32, 31>(x, importance, n, kGrid, kNear, kMaxRelativeError, blocks);
  }

  static constexpr GridSpec kGridSpec = iq4_grid(256, 8, {-32, 31});
  // k: a grid block, or what a search returns; codes count from the lowest level.
  template <class K>
  static TSUBU_INLINE Block pack(const K& k) {
    Block block;
    block.d = k.d;
    int high = 0;
    for (int s = 0; s < 8; ++s) high |= ((k.scale[s] + 32) >> 4) << (2 * s);
    block.scales_h[0] = static_cast<uint8_t>(high);
    block.scales_h[1] = static_cast<uint8_t>(high >> 8);
    for (int s = 0; s < 4; ++s)
      block.scales_l[s] = static_cast<uint8_t>(((k.scale[2 * s] + 32) & 15) | ((k.scale[2 * s + 1] + 32) & 15) << 4);
    for (int s = 0; s < 8; ++s)
      for (int j = 0; j < 16; ++j)
        block.qs[16 * s + j] = static_cast<uint8_t>(k.codes[32 * s + j] | k.codes[32 * s + 16 + j] << 4);
    return block;
  }
  static TSUBU_INLINE void unpack(const Block& block, GridBlock& k) {
    k.d = block.d;
    k.dmin = Half::of_bits(0);
    const int high = block.scales_h[0] | block.scales_h[1] << 8;
    for (int s = 0; s < 8; ++s) {
      const int low = block.scales_l[s / 2] >> (4 * (s % 2)) & 15;
      k.scale[s] = static_cast<int16_t>((low | (high >> (2 * s) & 3) << 4) - 32);
      k.min[s] = 0;
    }
    for (int i = 0; i < 256; ++i) k.codes[i] = block.qs[i / 32 * 16 + i % 16] >> (4 * (i / 16 % 2)) & 15;
  }
};

}  // namespace tsubu
