// NVFP4: 64 weights in FP4 (E2M1), one UE4M3 scale per 16; 4.5 bits per weight.
//   w = UE4M3(d[s]) · E2M1(code); a further scale of the whole tensor, if any, is stored beside the tensor.
// Eight bytes of qs per scale: byte j holds code j in its low nibble and code j + 8 in its high one. As in ggml, minus
// zero decodes as plus zero and a scale of 0x7f (NaN in the specification) as zero; has_finite_scales refuses that one,
// and scales with the sign bit, which decoding ignores.
// Source: NVIDIA's NVFP4; ggml's block_nvfp4.
#pragma once

#include "codec/bytes.h"
#include "codec/codec.h"
#include "codec/small_floats.h"

namespace tsubu {

struct NVFP4 {
  static constexpr std::string_view kName = "NVFP4";
  static constexpr uint32_t kGgufId = 40;
  static constexpr uint32_t kBlockLen = 64;
  static constexpr bool kIsQuantized = true;
  static constexpr std::string_view kSummary = "4-bit float (E2M1), 16 weights an FP8 scale";
  struct Block {
    uint8_t d[4];
    uint8_t qs[32];
  };
  static_assert(sizeof(Block) == 36 && alignof(Block) == 1);

  static TSUBU_INLINE bool has_finite_scales(const Block& block) {
    for (const uint8_t scale : block.d)
      if (scale >= 0x7f) return false;
    return true;
  }

  template <class L>
  static TSUBU_INLINE void decode(const Block& block, float* y) {
    constexpr uint64_t kLowNibbles = 0x0f0f0f0f0f0f0f0fu;
    for (int group = 0; group < 4; ++group) {
      const auto half_scale = L::set1(ue4m3_half(block.d[group]));
      const uint64_t codes = read_u64(block.qs + 8 * group);
      const auto lanes = lanes_of<L>(codes & kLowNibbles, codes >> 4 & kLowNibbles);
      L::store(y + 16 * group, L::mul(half_scale, L::lookup16(kE2m1Doubled, lanes)));
    }
  }
};

}  // namespace tsubu
