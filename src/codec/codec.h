// What a codec is: one header that holds one numeric format. A codec is a struct (never instantiated) with
//
//   static constexpr std::string_view kName;        // public spelling: "Q4_0"
//   static constexpr uint32_t kGgufId;              // ggml_type on disk
//   static constexpr uint32_t kBlockLen;            // weights per block
//   static constexpr bool kIsQuantized;             // false for plain floats and integers
//   static constexpr std::string_view kSummary;     // one line
//   static constexpr std::string_view kFallback;    // optional: the type for rows that are no multiple of kBlockLen
//   struct Block { … };                             // the bytes on disk; alignment 1 (Half for f16 fields), size
//   proved template <class L> static TSUBU_INLINE void decode(const Block& block, float* y);            // kBlockLen
//   floats static TSUBU_INLINE bool has_finite_scales(const Block& block);  // optional; else decoded values are looked
//   at
// and, when it can be encoded,
//   static constexpr double kMaxRelativeError;      // of |decode(encode(x)) - x| / max|x of the block|, with its
//   derivation template <class L> static TSUBU_INLINE Block encode(const float* x, const float* importance, const Row&
//   row);
//
// Instead of encode, encode_panel(x, importance, row, blocks, n) encodes up to sixteen blocks that follow each other, in lanes.
// L is a lane vocabulary (codec/lanes.h). importance points at the block's kBlockLen column weights or is nullptr. A
// codec whose blocks are too short for lanes (kBlockLen 1) may have decode_row / encode_row instead, over n weights.
// Rules: every function is a template over L or TSUBU_INLINE, and calls no inline function of the standard library:
// the same source is compiled once per instruction set and must leave no symbol that another unit could pick up. Only
// L's operations and single IEEE operations in source order, so that the bytes are the same on every machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/half.h"
#include "codec/lanes.h"

namespace tsubu {

template <class... Codecs>
struct TypeList {
  static constexpr size_t kSize = sizeof...(Codecs);
};

// An f16 at any byte address.
struct Half {
  uint8_t bytes[2];

  TSUBU_INLINE uint16_t bits() const { return static_cast<uint16_t>(bytes[0] | bytes[1] << 8); }
  TSUBU_INLINE float value() const { return f16_to_f32(bits()); }
  TSUBU_INLINE bool is_finite() const { return (bits() & 0x7c00u) != 0x7c00u; }
  static TSUBU_INLINE Half of_bits(uint16_t bits) {
    return {{static_cast<uint8_t>(bits), static_cast<uint8_t>(bits >> 8)}};
  }
  // Rounds to nearest; beyond ±65504 the largest finite value, so that a finite scale never becomes infinite.
  static TSUBU_INLINE Half of(float x) {
    const float low = x < -65504.0f ? -65504.0f : x;
    return of_bits(f32_to_f16(low > 65504.0f ? 65504.0f : low));
  }
};

// What encode may know about the row the block is in.
struct Row {
  float mean_square;  // of the row's values; 0 when there is no importance
};

template <class C>
concept RowDecodable = requires(const typename C::Block* blocks, float* y) {
  C::template decode_row<PortableLanes>(blocks, y, size_t{});
};
template <class C>
concept RowEncodable = requires(const float* x, typename C::Block* blocks) {
  C::template encode_row<PortableLanes>(x, blocks, size_t{});
};
template <class C>
concept BlockEncodable = requires(const float* x, const Row& row) {
  C::template encode<PortableLanes>(x, x, row);
};
template <class C>
concept PanelEncodable = requires(const float* x, const Row& row, typename C::Block* blocks) {
  C::template encode_panel<PortableLanes>(x, x, row, blocks, int{});
};
template <class C>
concept Encodable = RowEncodable<C> || BlockEncodable<C> || PanelEncodable<C>;

template <class L>
TSUBU_INLINE float mean_square(const float* x, size_t n) {
  typename L::F sum = L::zero();
  for (size_t i = 0; i < n; i += kLanes) {
    const typename L::F v = L::load(x + i);
    sum = L::add(sum, L::mul(v, v));
  }
  return L::hsum(sum) / static_cast<float>(n);
}

// TypeInfo::decode of codec C in lanes L.
template <class C, class L>
void decode_blocks(const std::byte* bytes, float* y, size_t n) {
  const auto* blocks = reinterpret_cast<const typename C::Block*>(bytes);
  if constexpr (RowDecodable<C>) {
    C::template decode_row<L>(blocks, y, n);
  } else {
    for (size_t i = 0; i < n / C::kBlockLen; ++i) C::template decode<L>(blocks[i], y + i * C::kBlockLen);
  }
}

// TypeInfo::encode of codec C in lanes L.
template <class C, class L>
void encode_blocks(const float* x, const float* importance, std::byte* bytes, size_t n) {
  auto* blocks = reinterpret_cast<typename C::Block*>(bytes);
  if constexpr (RowEncodable<C>) {
    C::template encode_row<L>(x, blocks, n);
  } else {
    if (n == 0) return;
    const Row row = {importance ? mean_square<L>(x, n) : 0.0f};
    if constexpr (PanelEncodable<C>) {
      constexpr size_t kMost = kLanes * C::kBlockLen;
      for (size_t i = 0; i < n; i += kMost)
        C::template encode_panel<L>(x + i, importance ? importance + i : nullptr, row, blocks + i / C::kBlockLen,
                                    static_cast<int>((n - i < kMost ? n - i : kMost) / C::kBlockLen));
    } else for (size_t i = 0; i < n; i += C::kBlockLen)
      blocks[i / C::kBlockLen] = C::template encode<L>(x + i, importance ? importance + i : nullptr, row);
  }
}

}  // namespace tsubu
