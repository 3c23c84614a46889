// Q8_K: 256 signed bytes with one f32 scale and the sums of each 16, for dot products with the 256-blocks; 9.125 bits
// per weight. w = d · q; the sums are not used in decoding.
// Source: ggml's block_q8_K.
#pragma once

#include "codec/bytes.h"
#include "codec/codec.h"

namespace tsubu {

struct Q8_K {
  static constexpr std::string_view kName = "Q8_K";
  static constexpr uint32_t kGgufId = 15;
  static constexpr uint32_t kBlockLen = 256;
  static constexpr bool kIsQuantized = true;
  static constexpr std::string_view kSummary = "8-bit activations, 256 a scale, with their sums";
  struct Block {
    uint8_t d[4];  // f32
    int8_t qs[256];
    uint8_t sums[32];  // 16 of i16: sum of q[16i … 16i + 15]
  };
  static_assert(sizeof(Block) == 292 && alignof(Block) == 1);

  static TSUBU_INLINE bool has_finite_scales(const Block& block) {
    return (read_u32(block.d) & 0x7f800000u) != 0x7f800000u;
  }

  template <class L>
  static TSUBU_INLINE void decode(const Block& block, float* y) {
    const auto d = L::set1(read_f32(block.d));
    for (int i = 0; i < 256; i += 16) L::store(y + i, L::mul(d, L::to_float(L::load_i8(block.qs + i))));
  }
};

}  // namespace tsubu
