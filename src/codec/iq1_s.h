// IQ1_S: 256 weights as points of a ternary 2048-point grid in 8 dimensions; 1.5625 bits per weight.
//   w = d · (2 · scale + 1) · (level + delta), level in {-1, 0, 1}, delta = ±1/8.
// Byte i of qs is the low part of the index of weights 8i … 8i + 7. Each 16-bit word of qh serves 32 weights: 4 × 3
// high index bits, the 3-bit scale, and on top the sign of delta (1 = minus).
// Source: ggml's block_iq1_s.
#pragma once

#include "codec/bytes.h"
#include "codec/codec.h"
#include "codec/iq_grids.h"
#include "codec/lattice_k.h"

namespace tsubu {

struct IQ1_S {
  static constexpr std::string_view kName = "IQ1_S";
  static constexpr uint32_t kGgufId = 19;
  static constexpr uint32_t kBlockLen = 256;
  static constexpr bool kIsQuantized = true;
  static constexpr std::string_view kSummary = "1.5-bit, ternary points of an 8-dimensional grid, 32 weights a scale";
  static constexpr std::string_view kFallback = "IQ4_NL";
  struct Block {
    Half d;
    uint8_t qs[32];
    uint8_t qh[16];
  };
  static_assert(sizeof(Block) == 50 && alignof(Block) == 1);

  static TSUBU_INLINE bool has_finite_scales(const Block& block) { return block.d.is_finite(); }

  template <class L>
  static TSUBU_INLINE void decode(const Block& block, float* y) {
    const float d = block.d.value();
    for (int group = 0; group < 8; ++group) {
      const uint32_t word = read_u16(block.qh + 2 * group);
      const auto scale = L::set1(d * static_cast<float>(2 * (word >> 12 & 7) + 1));
      const auto delta = L::set1(word & 0x8000 ? -0.125f : 0.125f);
      const uint8_t* low = block.qs + 4 * group;
      for (int i = 0; i < 4; i += 2) {
        const auto points = lanes_of<L>(kIq1sGrid.points[low[i] | (word >> (3 * i) & 7) << 8],
                                        kIq1sGrid.points[low[i + 1] | (word >> (3 * i + 3) & 7) << 8]);
        L::store(y + 32 * group + 8 * i, L::mul(scale, L::add(L::to_float(points), delta)));
      }
    }
  }

  using Lattice = LatticeForm<decltype(kIq1sIndex), kIq1sIndex, kIq1sGrid, LatticeSigns::kShift>;
  struct Scales {
    static constexpr int kSubLen = 32;
    static constexpr int kShiftLen = 32;
    static constexpr int kMax = 7;
    static constexpr float kLow = 0.3f, kHigh = 1.0f;
    static constexpr float kMeanSquares = 2;
    static constexpr float kGain = 1.0f;
    static TSUBU_INLINE float unit(int k) { return static_cast<float>(2 * k + 1); }
  };

  // A zero may be rounded to a level of the other sign of the shift; no level is beyond the largest magnitude but for
  // the rounding of d to f16.
  static constexpr double kMaxRelativeError = 2 + 0x1p-9;
  template <class L>
  static TSUBU_INLINE Block encode(const float* x, const float* importance, const Row&) {
    return pack(encode_lattice_k<L, Lattice, Scales>(x, importance, kMaxRelativeError));
  }

  static TSUBU_INLINE Block pack(const LatticeBlock& k) {
    Block block = {};
    block.d = k.d;
    for (int group = 0; group < 8; ++group) {
      uint32_t word = static_cast<uint32_t>(k.scale[group]) << 12 | (k.shift[4 * group] < 0 ? 0x8000u : 0u);
      for (int i = 0; i < 4; ++i) {
        const uint32_t point = k.code[4 * group + i].point[0];
        block.qs[4 * group + i] = static_cast<uint8_t>(point);
        word |= point >> 8 << (3 * i);
      }
      write_u16(block.qh + 2 * group, word);
    }
    return block;
  }
  static TSUBU_INLINE void unpack(const Block& block, LatticeBlock& k) {
    k = {};
    k.d = block.d;
    for (int group = 0; group < 8; ++group) {
      const uint32_t word = read_u16(block.qh + 2 * group);
      k.scale[group] = static_cast<uint8_t>(word >> 12 & 7);
      for (int i = 0; i < 4; ++i) {
        k.code[4 * group + i] = {{static_cast<uint16_t>(block.qs[4 * group + i] | (word >> (3 * i) & 7) << 8), 0}, 0};
        k.shift[4 * group + i] = word & 0x8000 ? -0.125f : 0.125f;
      }
    }
  }
};

}  // namespace tsubu
