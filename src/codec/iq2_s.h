// IQ2_S: 256 weights as points of a 1024-point grid in 8 dimensions with free signs; 2.5625 bits per weight.
//   w = d · (0.5 + scale) · 0.25 · sign · level.
// Byte i of qs is the low part of the index of weights 8i … 8i + 7, two bits of qh (lowest first) are its high part,
// byte i of signs holds the signs. scales holds one nibble per 16 weights, low nibble first.
// Source: ggml's block_iq2_s.
#pragma once

#include "codec/bytes.h"
#include "codec/codec.h"
#include "codec/iq_grids.h"
#include "codec/lattice_k.h"

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

  using Lattice = LatticeForm<decltype(kIq2sIndex), kIq2sIndex, kIq2sGrid, LatticeSigns::kFree>;
  struct Scales {
    static constexpr int kSubLen = 16;
    static constexpr int kShiftLen = 0;
    static constexpr int kMax = 15;
    static constexpr float kLow = 0.35f, kHigh = 1.2f;
    static constexpr float kMeanSquares = 2;
    static constexpr float kGain = 1.0f;
    static TSUBU_INLINE float unit(int k) { return 0.25f * (0.5f + static_cast<float>(k)); }
  };

  // Signs are kept and no level is beyond the largest magnitude but for the rounding of d to f16.
  static constexpr double kMaxRelativeError = 1 + 0x1p-9;
  template <class L>
  static TSUBU_INLINE Block encode(const float* x, const float* importance, const Row&) {
    return pack(encode_lattice_k<L, Lattice, Scales>(x, importance, kMaxRelativeError));
  }

  static TSUBU_INLINE Block pack(const LatticeBlock& k) {
    Block block = {};
    block.d = k.d;
    for (int i = 0; i < 32; ++i) {
      block.qs[i] = static_cast<uint8_t>(k.code[i].point[0]);
      block.qh[i / 4] = static_cast<uint8_t>(block.qh[i / 4] | (k.code[i].point[0] >> 8) << (2 * (i % 4)));
      block.signs[i] = k.code[i].minus;
    }
    for (int i = 0; i < 8; ++i) block.scales[i] = static_cast<uint8_t>(k.scale[2 * i] | k.scale[2 * i + 1] << 4);
    return block;
  }
  static TSUBU_INLINE void unpack(const Block& block, LatticeBlock& k) {
    k = {};
    k.d = block.d;
    for (int i = 0; i < 32; ++i) {
      const int high = block.qh[i / 4] >> (2 * (i % 4)) & 3;
      k.code[i] = {{static_cast<uint16_t>(block.qs[i] | high << 8), 0}, block.signs[i]};
    }
    for (int s = 0; s < 16; ++s) k.scale[s] = static_cast<uint8_t>(nibble(block.scales, s));
  }
};

}  // namespace tsubu
