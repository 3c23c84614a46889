// Integers and doubles as tensors hold them: ids 24 … 28. Decoding rounds to the nearest float.
// Source: GGUF specification (ggml_type).
#pragma once

#include "codec/bytes.h"

namespace tsubu {

struct I8 {
  static constexpr std::string_view kName = "I8";
  static constexpr uint32_t kGgufId = 24;
  static constexpr uint32_t kBlockLen = 1;
  static constexpr bool kIsQuantized = false;
  static constexpr std::string_view kSummary = "8-bit integers";
  struct Block {
    uint8_t bytes[1];
  };
  static_assert(sizeof(Block) == 1 && alignof(Block) == 1);

  static TSUBU_INLINE bool has_finite_scales(const Block&) { return true; }
  template <class L>
  static TSUBU_INLINE void decode_row(const Block* blocks, float* y, size_t n) {
    for (size_t i = 0; i < n; ++i) {
      const uint8_t* const p = blocks[i].bytes;
      y[i] = static_cast<float>(static_cast<int8_t>(p[0]));
    }
  }
};

struct I16 {
  static constexpr std::string_view kName = "I16";
  static constexpr uint32_t kGgufId = 25;
  static constexpr uint32_t kBlockLen = 1;
  static constexpr bool kIsQuantized = false;
  static constexpr std::string_view kSummary = "16-bit integers";
  struct Block {
    uint8_t bytes[2];
  };
  static_assert(sizeof(Block) == 2 && alignof(Block) == 1);

  static TSUBU_INLINE bool has_finite_scales(const Block&) { return true; }
  template <class L>
  static TSUBU_INLINE void decode_row(const Block* blocks, float* y, size_t n) {
    for (size_t i = 0; i < n; ++i) {
      const uint8_t* const p = blocks[i].bytes;
      y[i] = static_cast<float>(static_cast<int16_t>(read_u16(p)));
    }
  }
};

struct I32 {
  static constexpr std::string_view kName = "I32";
  static constexpr uint32_t kGgufId = 26;
  static constexpr uint32_t kBlockLen = 1;
  static constexpr bool kIsQuantized = false;
  static constexpr std::string_view kSummary = "32-bit integers";
  struct Block {
    uint8_t bytes[4];
  };
  static_assert(sizeof(Block) == 4 && alignof(Block) == 1);

  static TSUBU_INLINE bool has_finite_scales(const Block&) { return true; }
  template <class L>
  static TSUBU_INLINE void decode_row(const Block* blocks, float* y, size_t n) {
    for (size_t i = 0; i < n; ++i) {
      const uint8_t* const p = blocks[i].bytes;
      y[i] = static_cast<float>(static_cast<int32_t>(read_u32(p)));
    }
  }
};

struct I64 {
  static constexpr std::string_view kName = "I64";
  static constexpr uint32_t kGgufId = 27;
  static constexpr uint32_t kBlockLen = 1;
  static constexpr bool kIsQuantized = false;
  static constexpr std::string_view kSummary = "64-bit integers";
  struct Block {
    uint8_t bytes[8];
  };
  static_assert(sizeof(Block) == 8 && alignof(Block) == 1);

  static TSUBU_INLINE bool has_finite_scales(const Block&) { return true; }
  template <class L>
  static TSUBU_INLINE void decode_row(const Block* blocks, float* y, size_t n) {
    for (size_t i = 0; i < n; ++i) {
      const uint8_t* const p = blocks[i].bytes;
      y[i] = static_cast<float>(static_cast<int64_t>(read_u64(p)));
    }
  }
};

struct F64 {
  static constexpr std::string_view kName = "F64";
  static constexpr uint32_t kGgufId = 28;
  static constexpr uint32_t kBlockLen = 1;
  static constexpr bool kIsQuantized = false;
  static constexpr std::string_view kSummary = "64-bit floats";
  struct Block {
    uint8_t bytes[8];
  };
  static_assert(sizeof(Block) == 8 && alignof(Block) == 1);

  template <class L>
  static TSUBU_INLINE void decode_row(const Block* blocks, float* y, size_t n) {
    for (size_t i = 0; i < n; ++i) {
      const uint8_t* const p = blocks[i].bytes;
      y[i] = static_cast<float>(__builtin_bit_cast(double, read_u64(p)));
    }
  }
};

}  // namespace tsubu
