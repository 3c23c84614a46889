// IQ2_XS: 256 weights as points of a 512-point grid in 8 dimensions with even signs; 2.3125 bits per weight.
//   w = d · (0.5 + scale) · 0.25 · sign · level.
// Each 16-bit word of qs is 8 weights: a 9-bit point index and 7 signs (the eighth makes the number of minus signs
// even). scales holds one nibble per 16 weights, low nibble first.
// Source: ggml's block_iq2_xs.
#pragma once

#include "codec/bytes.h"
#include "codec/codec.h"
#include "codec/iq_grids.h"
#include "codec/lattice_k.h"

namespace tsubu {

struct IQ2_XS {
  static constexpr std::string_view kName = "IQ2_XS";
  static constexpr uint32_t kGgufId = 17;
  static constexpr uint32_t kBlockLen = 256;
  static constexpr bool kIsQuantized = true;
  static constexpr std::string_view kSummary = "2-bit, points of an 8-dimensional grid, 16 weights a scale";
  static constexpr std::string_view kFallback = "IQ4_NL";
  struct Block {
    Half d;
    uint8_t qs[64];
    uint8_t scales[8];
  };
  static_assert(sizeof(Block) == 74 && alignof(Block) == 1);

  static TSUBU_INLINE bool has_finite_scales(const Block& block) { return block.d.is_finite(); }

  template <class L>
  static TSUBU_INLINE void decode(const Block& block, float* y) {
    const float d = block.d.value();
    for (int group = 0; group < 16; ++group) {
      const auto scale = L::set1(d * (0.5f + static_cast<float>(nibble(block.scales, group))) * 0.25f);
      const uint32_t first = read_u16(block.qs + 4 * group);
      const uint32_t second = read_u16(block.qs + 4 * group + 2);
      const auto points = lanes_of<L>(with_signs(kIq2xsGrid.points[first & 511], even_signs(first >> 9)),
                                      with_signs(kIq2xsGrid.points[second & 511], even_signs(second >> 9)));
      L::store(y + 16 * group, L::mul(scale, L::to_float(points)));
    }
  }

  using Lattice = LatticeForm<decltype(kIq2xsIndex), kIq2xsIndex, kIq2xsGrid, LatticeSigns::kEven>;
  struct Scales {
    static constexpr int kSubLen = 16;
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
    for (int i = 0; i < 32; ++i)
      write_u16(block.qs + 2 * i, k.code[i].point[0] | static_cast<uint32_t>(k.code[i].minus & 127) << 9);
    for (int i = 0; i < 8; ++i) block.scales[i] = static_cast<uint8_t>(k.scale[2 * i] | k.scale[2 * i + 1] << 4);
    return block;
  }
  static TSUBU_INLINE void unpack(const Block& block, LatticeBlock& k) {
    k = {};
    k.d = block.d;
    for (int i = 0; i < 32; ++i) {
      const uint32_t word = read_u16(block.qs + 2 * i);
      k.code[i] = {{static_cast<uint16_t>(word & 511), 0}, static_cast<uint8_t>(even_signs(word >> 9))};
    }
    for (int s = 0; s < 16; ++s) k.scale[s] = static_cast<uint8_t>(nibble(block.scales, s));
  }
};

}  // namespace tsubu
