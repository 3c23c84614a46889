// MXFP4: 32 weights in FP4 (E2M1) with one shared power of two (E8M0); 4.25 bits per weight.
//   w = 2^(e - 127) · E2M1(code). Byte j of qs holds code j in its low nibble and code j + 16 in its high one.
// As in ggml, minus zero decodes as plus zero and e = 255 (NaN in the specification) as 2^128; has_finite_scales
// refuses that one.
// Source: OCP Microscaling Formats 1.0; ggml's block_mxfp4.
#pragma once

#include "codec/codec.h"
#include "codec/small_floats.h"

namespace tsubu {

struct MXFP4 {
  static constexpr std::string_view kName = "MXFP4";
  static constexpr uint32_t kGgufId = 39;
  static constexpr uint32_t kBlockLen = 32;
  static constexpr bool kIsQuantized = true;
  static constexpr std::string_view kSummary = "4-bit float (E2M1), 32 weights a power-of-two scale";
  struct Block {
    uint8_t e;
    uint8_t qs[16];
  };
  static_assert(sizeof(Block) == 17 && alignof(Block) == 1);

  static TSUBU_INLINE bool has_finite_scales(const Block& block) { return block.e != 255; }

  template <class L>
  static TSUBU_INLINE void decode(const Block& block, float* y) {
    const auto half_scale = L::set1(e8m0_half(block.e));
    const auto bytes = L::load_u8(block.qs);
    L::store(y, L::mul(half_scale, L::lookup16(kE2m1Doubled, L::bit_and(bytes, L::set1_i(15)))));
    L::store(y + 16, L::mul(half_scale, L::lookup16(kE2m1Doubled, L::template shift_right<4>(bytes))));
  }
};

}  // namespace tsubu
