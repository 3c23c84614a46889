// IQ1_M: 256 weights as points of IQ1_S's ternary grid, a finer scale; 1.75 bits per weight.
//   w = d · (2 · scale + 1) · (level + delta), level in {-1, 0, 1}, delta = ±1/8.
// Byte i of qs is the low part of the index of weights 8i … 8i + 7; nibble i of qh (low first) has its three high bits
// and on top the sign of delta (1 = minus). scales is four 16-bit words of 4 × 3 bits, one scale per 16 weights; their
// top nibbles, first word lowest, are the f16 d.
// Source: ggml's block_iq1_m.
#pragma once

#include "codec/bytes.h"
#include "codec/codec.h"
#include "codec/iq_grids.h"
#include "codec/lattice_k.h"

namespace tsubu {

struct IQ1_M {
  static constexpr std::string_view kName = "IQ1_M";
  static constexpr uint32_t kGgufId = 29;
  static constexpr uint32_t kBlockLen = 256;
  static constexpr bool kIsQuantized = true;
  static constexpr std::string_view kSummary = "1.75-bit, ternary points of an 8-dimensional grid, 16 weights a scale";
  static constexpr std::string_view kFallback = "IQ4_NL";
  struct Block {
    uint8_t qs[32];
    uint8_t qh[16];
    uint8_t scales[8];

    TSUBU_INLINE Half d() const {
      uint32_t bits = 0;
      for (int i = 0; i < 4; ++i) bits |= read_u16(scales + 2 * i) >> 12 << (4 * i);
      return Half::of_bits(static_cast<uint16_t>(bits));
    }
  };
  static_assert(sizeof(Block) == 56 && alignof(Block) == 1);

  static TSUBU_INLINE bool has_finite_scales(const Block& block) { return block.d().is_finite(); }

  template <class L>
  static TSUBU_INLINE void decode(const Block& block, float* y) {
    const float d = block.d().value();
    for (int group = 0; group < 16; ++group) {
      const uint32_t stored_scale = read_u16(block.scales + group / 4 * 2) >> (3 * (group % 4)) & 7;
      const auto scale = L::set1(d * static_cast<float>(2 * stored_scale + 1));
      const uint32_t first = nibble(block.qh, 2 * group);
      const uint32_t second = nibble(block.qh, 2 * group + 1);
      const auto points = lanes_of<L>(kIq1sGrid.points[block.qs[2 * group] | (first & 7) << 8],
                                      kIq1sGrid.points[block.qs[2 * group + 1] | (second & 7) << 8]);
      // In eighths, where level + delta is an integer: 8 · level ± 1.
      constexpr uint64_t kOnes = 0x0101010101010101u;
      const auto delta = lanes_of<L>(with_signs(kOnes, first & 8 ? 255 : 0), with_signs(kOnes, second & 8 ? 255 : 0));
      const auto eighths = L::to_float(L::add(L::template shift_left<3>(points), delta));
      L::store(y + 16 * group, L::mul(scale, L::mul(eighths, L::set1(0.125f))));
    }
  }

  using Lattice = LatticeForm<decltype(kIq1sIndex), kIq1sIndex, kIq1sGrid, LatticeSigns::kShift>;
  struct Scales {
    static constexpr int kSubLen = 16;
    static constexpr int kShiftLen = 8;
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
    const uint32_t d = k.d.bits();
    for (int i = 0; i < 4; ++i) {
      uint32_t word = (d >> (4 * i) & 15) << 12;
      for (int s = 0; s < 4; ++s) word |= static_cast<uint32_t>(k.scale[4 * i + s]) << (3 * s);
      write_u16(block.scales + 2 * i, word);
    }
    for (int i = 0; i < 32; ++i) {
      const uint32_t point = k.code[i].point[0];
      block.qs[i] = static_cast<uint8_t>(point);
      const uint32_t high = point >> 8 | (k.shift[i] < 0 ? 8u : 0u);
      block.qh[i / 2] = static_cast<uint8_t>(block.qh[i / 2] | high << (4 * (i % 2)));
    }
    return block;
  }
  static TSUBU_INLINE void unpack(const Block& block, LatticeBlock& k) {
    k = {};
    k.d = block.d();
    for (int i = 0; i < 32; ++i) {
      const uint32_t high = nibble(block.qh, i);
      k.code[i] = {{static_cast<uint16_t>(block.qs[i] | (high & 7) << 8), 0}, 0};
      k.shift[i] = high & 8 ? -0.125f : 0.125f;
    }
    for (int s = 0; s < 16; ++s)
      k.scale[s] = static_cast<uint8_t>(read_u16(block.scales + s / 4 * 2) >> (3 * (s % 4)) & 7);
  }
};

}  // namespace tsubu
