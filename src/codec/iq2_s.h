// IQ2_S: 256 weights as points of a 1024-point grid in 8 dimensions with free signs; 2.5625 bits per weight.
//   w = d · (0.5 + scale) · 0.25 · sign · level.
// Byte i of qs is the low part of the index of weights 8i … 8i + 7, two bits of qh (lowest first) are its high part,
// byte i of signs holds the signs. scales holds one nibble per 16 weights, low nibble first.
// Source: ggml's block_iq2_s.
#pragma once

#include "codec/bytes.h"
#include "codec/codec.h"
#include "codec/iq_grids.h"

namespace tsubu {

struct IQ2_S {
  static constexpr std::string_view kName = "IQ2_S";
  static constexpr uint32_t kGgufId = 22;
  static constexpr uint32_t kBlockLen = 256;
  static constexpr bool kIsQuantized = true;
  static constexpr std::string_view kSummary = "2-bit, points of a larger 8-dimensional grid, free signs";
  static constexpr std::string_view kFallback = "IQ4_NL";
  struct Block {
    Half d;
    uint8_t qs[32];
    uint8_t signs[32];
    uint8_t qh[8];
    uint8_t scales[8];
  };
  static_assert(sizeof(Block) == 82 && alignof(Block) == 1);

  static TSUBU_INLINE bool has_finite_scales(const Block& block) { return block.d.is_finite(); }

  template <class L>
  static TSUBU_INLINE void decode(const Block& block, float* y) {
    const float d = block.d.value();
    for (int group = 0; group < 16; ++group) {
      const auto scale = L::set1(d * (0.5f + static_cast<float>(nibble(block.scales, group))) * 0.25f);
      const int i = 2 * group;
      const uint32_t high = nibble(block.qh, group);
      const uint64_t first = kIq2sGrid.points[block.qs[i] | (high & 3) << 8];
      const uint64_t second = kIq2sGrid.points[block.qs[i + 1] | (high >> 2) << 8];
      const auto points = lanes_of<L>(with_signs(first, block.signs[i]), with_signs(second, block.signs[i + 1]));
      L::store(y + 16 * group, L::mul(scale, L::to_float(points)));
    }
  }
};

}  // namespace tsubu
