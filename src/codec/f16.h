// F16: IEEE binary16, little-endian. Encoding rounds to nearest even; values beyond ±65504 become ±65504.
#pragma once

#include "codec/codec.h"

namespace tsubu {

struct F16 {
  static constexpr std::string_view kName = "F16";
  static constexpr uint32_t kGgufId = 1;
  static constexpr uint32_t kBlockLen = 1;
  static constexpr bool kIsQuantized = false;
  static constexpr std::string_view kSummary = "IEEE half precision";
  static constexpr double kMaxRelativeError = 0x1p-11;  // half a unit in the last of 11 significant bits
  using Block = Half;
  static_assert(sizeof(Block) == 2 && alignof(Block) == 1);

  static TSUBU_INLINE bool has_finite_scales(const Block& block) { return block.is_finite(); }

  template <class L>
  static TSUBU_INLINE void decode_row(const Block* blocks, float* y, size_t n) {
    size_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
      uint16_t bits[kLanes];
      __builtin_memcpy(bits, blocks + i, sizeof bits);
      L::store(y + i, L::load_f16(bits));
    }
    for (; i < n; ++i) y[i] = blocks[i].value();
  }
  template <class L>
  static TSUBU_INLINE void encode_row(const float* x, Block* blocks, size_t n) {
    size_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
      uint16_t bits[kLanes];
      L::store_f16(bits, L::min(L::max(L::load(x + i), L::set1(-65504.0f)), L::set1(65504.0f)));
      __builtin_memcpy(blocks + i, bits, sizeof bits);
    }
    for (; i < n; ++i) blocks[i] = Half::of(x[i]);
  }
};

}  // namespace tsubu
