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
  // Scales of sixteen blocks at once, one in each lane.
  template <class L>
  static TSUBU_INLINE void encode_panel(const float* x, const float*, const Row&, Block* blocks, int n) {
    float largest[kLanes] = {}, inverse[kLanes];
    for (int b = 0; b < n; ++b)
      largest[b] = L::hmax(L::max(L::abs(L::load(x + 32 * b)), L::abs(L::load(x + 32 * b + 16))));
    uint16_t bits[kLanes];
    L::store_f16(bits, L::min(L::div(L::load(largest), L::set1(127.0f)), L::set1(65504.0f)));
    const auto d = L::load_f16(bits);
    L::store(inverse, L::select(L::gt(d, L::zero()), L::div(L::set1(1.0f), d), L::zero()));
    for (int b = 0; b < n; ++b) {
      Block& block = blocks[b];
      block.d = Half::of_bits(bits[b]);
      for (int i = 0; i < 32; i += kLanes) {
        const auto t = L::mul(L::load(x + 32 * b + i), L::set1(inverse[b]));
        L::store_u8(reinterpret_cast<uint8_t*>(block.qs) + i, L::to_int(round_within<L>(t, -127.0f, 127.0f)));
      }
    }
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
