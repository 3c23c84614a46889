// Q1_0: 128 weights of one sign bit with one f16 scale; 1.125 bits per weight.
//   w = d where bit i of qs (lowest first) is 1, -d where it is 0.
// Source: ggml's block_q1_0.
#pragma once

#include "codec/bytes.h"
#include "codec/codec.h"

namespace tsubu {

struct Q1_0 {
  static constexpr std::string_view kName = "Q1_0";
  static constexpr uint32_t kGgufId = 41;
  static constexpr uint32_t kBlockLen = 128;
  static constexpr bool kIsQuantized = true;
  static constexpr std::string_view kSummary = "1-bit: signs, 128 weights a scale";
  struct Block {
    Half d;
    uint8_t qs[16];
  };
  static_assert(sizeof(Block) == 18 && alignof(Block) == 1);

  static TSUBU_INLINE bool has_finite_scales(const Block& block) { return block.d.is_finite(); }

  template <class L>
  static TSUBU_INLINE void decode(const Block& block, float* y) {
    constexpr uint64_t kOnes = 0x0101010101010101u;
    const auto d = L::set1(block.d.value());
    for (int i = 0; i < 8; ++i) {
      const uint32_t minus = ~read_u16(block.qs + 2 * i);
      const auto signs = lanes_of<L>(with_signs(kOnes, minus), with_signs(kOnes, minus >> 8));
      L::store(y + 16 * i, L::mul(d, L::to_float(signs)));
    }
  }
};

}  // namespace tsubu
