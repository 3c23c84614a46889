// IQ3_S: 256 weights as points of a 512-point grid in 4 dimensions with free signs; 3.4375 bits per weight.
//   w = d · (1 + 2 · scale) · sign · level.
// Byte i of qs is the low part of the index of weights 4i … 4i + 3, bit i of qh its high bit, bit i of signs the sign
// of weight i. scales holds one nibble per 32 weights, low nibble first.
// Source: ggml's block_iq3_s.
#pragma once

#include "codec/bytes.h"
#include "codec/codec.h"
#include "codec/iq_grids.h"
#include "codec/lattice_k.h"

namespace tsubu {

struct IQ3_S {
  static constexpr std::string_view kName = "IQ3_S";
  static constexpr uint32_t kGgufId = 21;
  static constexpr uint32_t kBlockLen = 256;
  static constexpr bool kIsQuantized = true;
  static constexpr std::string_view kSummary = "3-bit, points of a larger 4-dimensional grid, free signs";
  static constexpr std::string_view kFallback = "IQ4_NL";
  struct Block {
    Half d;
    uint8_t qs[64];
    uint8_t qh[8];
    uint8_t signs[32];
    uint8_t scales[4];
  };
  static_assert(sizeof(Block) == 110 && alignof(Block) == 1);

  static TSUBU_INLINE bool has_finite_scales(const Block& block) { return block.d.is_finite(); }

  template <class L>
  static TSUBU_INLINE void decode(const Block& block, float* y) {
    const float d = block.d.value();
    for (int group = 0; group < 8; ++group) {
      const auto scale = L::set1(d * static_cast<float>(1 + 2 * nibble(block.scales, group)));
      const uint8_t* index = block.qs + 8 * group;
      const uint32_t high = static_cast<uint32_t>(block.qh[group]) << 8;  // bit 8 after a shift by i
      const uint8_t* signs = block.signs + 4 * group;
      for (int i = 0; i < 8; i += 4) {
        const uint64_t first = joined(kIq3sGrid.points[index[i] | (high >> i & 256)],
                                      kIq3sGrid.points[index[i + 1] | (high >> (i + 1) & 256)]);
        const uint64_t second = joined(kIq3sGrid.points[index[i + 2] | (high >> (i + 2) & 256)],
                                       kIq3sGrid.points[index[i + 3] | (high >> (i + 3) & 256)]);
        const auto points = lanes_of<L>(with_signs(first, signs[i / 2]), with_signs(second, signs[i / 2 + 1]));
        L::store(y + 32 * group + 4 * i, L::mul(scale, L::to_float(points)));
      }
    }
  }

  using Lattice = LatticeForm<decltype(kIq3sIndex), kIq3sIndex, kIq3sGrid, LatticeSigns::kFree>;
  struct Scales {
    static constexpr int kSubLen = 32;
    static constexpr int kShiftLen = 0;
    static constexpr int kMax = 15;
    static constexpr float kLow = 0.6f, kHigh = 1.3f;
    static constexpr float kMeanSquares = 2;
    static constexpr float kGain = 1.0f;
    static TSUBU_INLINE float unit(int k) { return static_cast<float>(1 + 2 * k); }
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
      const LatticeCode& code = k.code[i];
      block.qs[2 * i] = static_cast<uint8_t>(code.point[0]);
      block.qs[2 * i + 1] = static_cast<uint8_t>(code.point[1]);
      const int high = code.point[0] >> 8 | code.point[1] >> 8 << 1;
      block.qh[i / 4] = static_cast<uint8_t>(block.qh[i / 4] | high << (2 * (i % 4)));
      block.signs[i] = code.minus;
    }
    for (int i = 0; i < 4; ++i) block.scales[i] = static_cast<uint8_t>(k.scale[2 * i] | k.scale[2 * i + 1] << 4);
    return block;
  }
  static TSUBU_INLINE void unpack(const Block& block, LatticeBlock& k) {
    k = {};
    k.d = block.d;
    for (int i = 0; i < 32; ++i) {
      const int high = block.qh[i / 4] >> (2 * (i % 4));
      k.code[i] = {{static_cast<uint16_t>(block.qs[2 * i] | (high & 1) << 8),
                    static_cast<uint16_t>(block.qs[2 * i + 1] | (high & 2) << 7)},
                   block.signs[i]};
    }
    for (int s = 0; s < 8; ++s) k.scale[s] = static_cast<uint8_t>(nibble(block.scales, s));
  }
};

}  // namespace tsubu
