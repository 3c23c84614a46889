// IQ2_XXS: 256 weights as points of a 256-point grid in 8 dimensions with even signs; 2.0625 bits per weight.
//   w = d · (0.5 + scale) · 0.25 · sign · level.
// Each 8 bytes of qs hold 32 weights: four point indices, then a 32-bit word with 4 × 7 signs (bit 0 = first weight;
// the eighth sign makes the number of minus signs even) and the 4-bit scale on top.
// Source: ggml's block_iq2_xxs.
#pragma once

#include "codec/bytes.h"
#include "codec/codec.h"
#include "codec/iq_grids.h"
#include "codec/lattice_k.h"

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

  using Lattice = LatticeForm<decltype(kIq2xxsIndex), kIq2xxsIndex, kIq2xxsGrid, LatticeSigns::kEven>;
  struct Scales {
    static constexpr int kSubLen = 32;
    static constexpr int kShiftLen = 0;
    static constexpr int kMax = 15;
    static constexpr float kLow = 0.35f, kHigh = 1.2f;
    static constexpr float kMeanSquares = 1;
    static constexpr float kGain = 1.0f;
    static TSUBU_INLINE float unit(int k) { return 0.25f * (0.5f + static_cast<float>(k)); }
  };

  // A sign may be wrong, and no level is beyond the largest magnitude but for the rounding of d to f16.
  static constexpr double kMaxRelativeError = 2 + 0x1p-9;
  template <class L>
  static TSUBU_INLINE Block encode(const float* x, const float* importance, const Row&) {
    return pack(encode_lattice_k<L, Lattice, Scales>(x, importance, kMaxRelativeError));
  }

  static TSUBU_INLINE Block pack(const LatticeBlock& k) {
    Block block = {};
    block.d = k.d;
    for (int group = 0; group < 8; ++group) {
      uint32_t word = static_cast<uint32_t>(k.scale[group]) << 28;
      for (int i = 0; i < 4; ++i) {
        const LatticeCode& code = k.code[4 * group + i];
        block.qs[8 * group + i] = static_cast<uint8_t>(code.point[0]);
        word |= static_cast<uint32_t>(code.minus & 127) << (7 * i);
      }
      write_u32(block.qs + 8 * group + 4, word);
    }
    return block;
  }
  static TSUBU_INLINE void unpack(const Block& block, LatticeBlock& k) {
    k = {};
    k.d = block.d;
    for (int group = 0; group < 8; ++group) {
      const uint32_t word = read_u32(block.qs + 8 * group + 4);
      k.scale[group] = static_cast<uint8_t>(word >> 28);
      for (int i = 0; i < 4; ++i)
        k.code[4 * group + i] = {{block.qs[8 * group + i], 0}, static_cast<uint8_t>(even_signs(word >> (7 * i) & 127))};
    }
  }
};

}  // namespace tsubu
