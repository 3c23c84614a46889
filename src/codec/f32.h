// F32: IEEE binary32, little-endian.
#pragma once

#include "codec/codec.h"

namespace tsubu {

struct F32 {
  static constexpr std::string_view kName = "F32";
  static constexpr uint32_t kGgufId = 0;
  static constexpr uint32_t kBlockLen = 1;
  static constexpr bool kIsQuantized = false;
  static constexpr std::string_view kSummary = "IEEE single precision";
  static constexpr double kMaxRelativeError = 0;  // a copy
  struct Block {
    uint8_t bytes[4];
  };
  static_assert(sizeof(Block) == 4 && alignof(Block) == 1);

  template <class L>
  static TSUBU_INLINE void decode_row(const Block* blocks, float* y, size_t n) {
    __builtin_memcpy(y, blocks, n * sizeof(float));
  }
  template <class L>
  static TSUBU_INLINE void encode_row(const float* x, Block* blocks, size_t n) {
    __builtin_memcpy(blocks, x, n * sizeof(float));
  }
};

}  // namespace tsubu
