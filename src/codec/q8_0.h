// Q8_0: 32 weights as signed 8-bit codes with one f16 scale; 8.5 bits per weight.   w = d · code.
// Source: ggml's block_q8_0.
#pragma once

#include "codec/codec.h"
#include "codec/grid.h"
#include "codec/weights.h"

namespace tsubu {

struct Q8_0 {
  static constexpr std::string_view kName = "Q8_0";
  static constexpr uint32_t kGgufId = 8;
  static constexpr uint32_t kBlockLen = 32;
  static constexpr bool kIsQuantized = true;
  static constexpr std::string_view kSummary = "8-bit, 32 weights a scale, symmetric";
  struct Block {
    Half d;
    int8_t qs[32];
  };
  static_assert(sizeof(Block) == 34 && alignof(Block) == 1);

  static TSUBU_INLINE bool has_finite_scales(const Block& block) { return block.d.is_finite(); }

  template <class L>
  static TSUBU_INLINE void decode(const Block& block, float* y) {
    const auto d = L::set1(block.d.value());
    for (int i = 0; i < 32; i += kLanes) L::store(y + i, L::mul(L::to_float(L::load_i8(block.qs + i)), d));
  }

  // Half a step of 1/127, and the scale's rounding to f16 (2^-11 of the value).
  static constexpr double kMaxRelativeError = 0.5 / 127 + 0x1p-11;
  template <class L>
  static TSUBU_INLINE Block encode(const float* x, const float*, const Row&) {
    auto magnitude = L::zero();
    for (int i = 0; i < 32; i += kLanes) magnitude = L::max(magnitude, L::abs(L::load(x + i)));
    Block block;
    block.d = Half::of(L::hmax(magnitude) / 127.0f);
    const float d = block.d.value();
    const auto inverse = L::set1(d != 0 ? 1.0f / d : 0.0f);
    for (int i = 0; i < 32; i += kLanes) {
      const auto code = L::to_int(round_within<L>(L::mul(L::load(x + i), inverse), -127.0f, 127.0f));
      L::store_u8(reinterpret_cast<uint8_t*>(block.qs) + i, code);
    }
    return block;
  }

  static constexpr GridSpec kGridSpec = integer_grid<-127, 127>(32, 1);
  static TSUBU_INLINE Block pack(const GridBlock& k) {
    Block block;
    block.d = k.d;
    for (int i = 0; i < 32; ++i) block.qs[i] = static_cast<int8_t>(k.codes[i] - 127);
    return block;
  }
  static TSUBU_INLINE void unpack(const Block& block, GridBlock& k) {
    k.d = block.d;
    k.dmin = Half::of_bits(0);
    k.scale[0] = 1;
    k.min[0] = 0;
    for (int i = 0; i < 32; ++i) k.codes[i] = static_cast<uint8_t>(block.qs[i] + 127);
  }
};

}  // namespace tsubu
