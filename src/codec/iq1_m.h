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
};

}  // namespace tsubu
