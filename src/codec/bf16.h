// BF16: the upper half of binary32, little-endian. Encoding rounds to nearest even.
#pragma once

#include "codec/codec.h"

namespace tsubu {

struct BF16 {
  static constexpr std::string_view kName = "BF16";
  static constexpr uint32_t kGgufId = 30;
  static constexpr uint32_t kBlockLen = 1;
  static constexpr bool kIsQuantized = false;
  static constexpr std::string_view kSummary = "bfloat16: single precision's range, 8 significant bits";
  static constexpr double kMaxRelativeError = 0x1p-8;  // half a unit in the last of 8 significant bits
  using Block = Half;
  static_assert(sizeof(Block) == 2 && alignof(Block) == 1);

  static TSUBU_INLINE bool has_finite_scales(const Block& block) { return (block.bits() & 0x7f80u) != 0x7f80u; }

  template <class L>
  static TSUBU_INLINE void decode_row(const Block* blocks, float* y, size_t n) {
    for (size_t i = 0; i < n; ++i) y[i] = bf16_to_f32(blocks[i].bits());
  }
  template <class L>
  static TSUBU_INLINE void encode_row(const float* x, Block* blocks, size_t n) {
    for (size_t i = 0; i < n; ++i) {
      const uint16_t bits = f32_to_bf16(x[i]);
      // A finite value within half a unit of the largest must not round to infinity.
      const bool is_finite = (__builtin_bit_cast(uint32_t, x[i]) & 0x7fffffffu) < 0x7f800000u;
      const bool overflowed = is_finite && (bits & 0x7fffu) == 0x7f80u;
      blocks[i] = Half::of_bits(static_cast<uint16_t>(bits - overflowed));
    }
  }
};

}  // namespace tsubu
