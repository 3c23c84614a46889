// Q8_1: 32 signed bytes with one f16 scale and the precomputed d · Σq, for dot products with types that have a minimum;
// 9 bits per weight. w = d · q; the sum is not used in decoding.
// Source: ggml's block_q8_1.
#pragma once

#include "codec/bytes.h"
#include "codec/codec.h"

namespace tsubu {

struct Q8_1 {
  static constexpr std::string_view kName = "Q8_1";
  static constexpr uint32_t kGgufId = 9;
  static constexpr uint32_t kBlockLen = 32;
  static constexpr bool kIsQuantized = true;
  static constexpr std::string_view kSummary = "8-bit activations, 32 a scale, with their sum";
  struct Block {
    Half d;
    Half sum;  // d · Σq
    int8_t qs[32];
  };
  static_assert(sizeof(Block) == 36 && alignof(Block) == 1);

  static TSUBU_INLINE bool has_finite_scales(const Block& block) {
    return block.d.is_finite() && block.sum.is_finite();
  }

  template <class L>
  static TSUBU_INLINE void decode(const Block& block, float* y) {
    const auto d = L::set1(block.d.value());
    L::store(y, L::mul(d, L::to_float(L::load_i8(block.qs))));
    L::store(y + 16, L::mul(d, L::to_float(L::load_i8(block.qs + 16))));
  }
};

}  // namespace tsubu
