// Q2_0: 64 weights of two bits with one f16 scale; 2.25 bits per weight.
//   w = d · (code - 1), four codes a byte, lowest bits first.
// Source: ggml's block_q2_0.
#pragma once

#include "codec/bytes.h"
#include "codec/codec.h"

namespace tsubu {

struct Q2_0 {
  static constexpr std::string_view kName = "Q2_0";
  static constexpr uint32_t kGgufId = 42;
  static constexpr uint32_t kBlockLen = 64;
  static constexpr bool kIsQuantized = true;
  static constexpr std::string_view kSummary = "2-bit: -1, 0, 1, 2 times one scale of 64 weights";
  struct Block {
    Half d;
    uint8_t qs[16];
  };
  static_assert(sizeof(Block) == 18 && alignof(Block) == 1);

  static TSUBU_INLINE bool has_finite_scales(const Block& block) { return block.d.is_finite(); }

  template <class L>
  static TSUBU_INLINE void decode(const Block& block, float* y) {
    const auto d = L::set1(block.d.value());
    for (int i = 0; i < 4; ++i) {
      const uint32_t word = read_u32(block.qs + 4 * i);
      const auto codes = lanes_of<L>(spread_crumbs(word), spread_crumbs(word >> 16));
      L::store(y + 16 * i, L::mul(d, L::to_float(L::sub(codes, L::set1_i(1)))));
    }
  }
};

}  // namespace tsubu
