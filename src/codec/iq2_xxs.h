// IQ2_XXS: 256 weights as points of a 256-point grid in 8 dimensions with even signs; 2.0625 bits per weight.
//   w = d · (0.5 + scale) · 0.25 · sign · level.
// Each 8 bytes of qs hold 32 weights: four point indices, then a 32-bit word with 4 × 7 signs (bit 0 = first weight;
// the eighth sign makes the number of minus signs even) and the 4-bit scale on top.
// Source: ggml's block_iq2_xxs.
#pragma once

#include "codec/bytes.h"
#include "codec/codec.h"
#include "codec/iq_grids.h"

namespace tsubu {

struct IQ2_XXS {
  static constexpr std::string_view kName = "IQ2_XXS";
  static constexpr uint32_t kGgufId = 16;
  static constexpr uint32_t kBlockLen = 256;
  static constexpr bool kIsQuantized = true;
  static constexpr std::string_view kSummary = "2-bit, points of an 8-dimensional grid, 32 weights a scale";
  static constexpr std::string_view kFallback = "IQ4_NL";
  struct Block {
    Half d;
    uint8_t qs[64];
  };
  static_assert(sizeof(Block) == 66 && alignof(Block) == 1);

  static TSUBU_INLINE bool has_finite_scales(const Block& block) { return block.d.is_finite(); }

  template <class L>
  static TSUBU_INLINE void decode(const Block& block, float* y) {
    const float d = block.d.value();
    for (int group = 0; group < 8; ++group) {
      const uint8_t* indices = block.qs + 8 * group;
      const uint32_t word = read_u32(indices + 4);
      const auto scale = L::set1(d * (0.5f + static_cast<float>(word >> 28)) * 0.25f);
      for (int i = 0; i < 4; i += 2) {
        const uint64_t first = kIq2xxsGrid.points[indices[i]];
        const uint64_t second = kIq2xxsGrid.points[indices[i + 1]];
        const auto points = lanes_of<L>(with_signs(first, even_signs(word >> (7 * i) & 127)),
                                        with_signs(second, even_signs(word >> (7 * i + 7) & 127)));
        L::store(y + 32 * group + 8 * i, L::mul(scale, L::to_float(points)));
      }
    }
  }
};

}  // namespace tsubu
