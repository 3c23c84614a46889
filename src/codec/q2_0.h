// Q2_0: 64 weights of two bits with one f16 scale; 2.25 bits per weight.
//   w = d · (code - 1), four codes a byte, lowest bits first.
// Source: ggml's block_q2_0.
#pragma once

#include "codec/bytes.h"
#include "codec/codec.h"
#include "codec/grid.h"
#include "codec/single_scale.h"

namespace tsubu {

struct Q2_0 {
  static constexpr std::string_view kName = "Q2_0";
  static constexpr uint32_t kGgufId = 42;
  static constexpr uint32_t kBlockLen = 64;
  static constexpr bool kIsQuantized = true;
  static constexpr std::string_view kSummary = "2-bit: -1, 0, 1, 2 times one scale of 64 weights";
  struct Block {
    Half d;
    uint8_t qs[16];
  };
  static_assert(sizeof(Block) == 18 && alignof(Block) == 1);

  static TSUBU_INLINE bool has_finite_scales(const Block& block) { return block.d.is_finite(); }

  template <class L>
  static TSUBU_INLINE void decode(const Block& block, float* y) {
    const auto d = L::set1(block.d.value());
    for (int i = 0; i < 4; ++i) {
      const uint32_t word = read_u32(block.qs + 4 * i);
      const auto codes = lanes_of<L>(spread_crumbs(word), spread_crumbs(word >> 16));
      L::store(y + 16 * i, L::mul(d, L::to_float(L::sub(codes, L::set1_i(1)))));
    }
  }

  // Plain rounding: the largest magnitude is code 2, its mirror image ends at -1; and the rounding of d to f16.
  static constexpr double kMaxRelativeError = kSearchSlack * (1.0 / 2 + 0x1p-10);
  // Either sign of the scale: the largest magnitude as 2 (or beyond) or as -1.
  static constexpr SymmetricGrid kLargest = {{0.75f, 1.06f, 1.5f, 2.12f, 3.0f, 4.24f, 6.0f, 8.49f, -0.75f, -1.06f,
                                              -1.5f, -2.12f, -3.0f, -4.24f, -6.0f, -8.49f}};
  template <class L>
  static TSUBU_INLINE Block encode(const float* x, const float* importance, const Row&) {
    const auto fit =
        encode_single_scale<L, IntegerCodes<-1, 2>, 64>(x, importance, kLargest, kSingleScaleAround, kMaxRelativeError);
    return packed(fit.d, fit.codes);
  }

  static TSUBU_INLINE Block packed(Half d, const uint8_t* codes) {
    Block block;
    block.d = d;
    for (int i = 0; i < 16; ++i) {
      const uint8_t* c = codes + 4 * i;
      block.qs[i] = static_cast<uint8_t>(c[0] | c[1] << 2 | c[2] << 4 | c[3] << 6);
    }
    return block;
  }

  static constexpr GridSpec kGridSpec = integer_grid<-1, 2>(64, 1);
  static TSUBU_INLINE Block pack(const GridBlock& k) { return packed(k.d, k.codes); }
  static TSUBU_INLINE void unpack(const Block& block, GridBlock& k) {
    k.d = block.d;
    k.dmin = Half::of_bits(0);
    k.scale[0] = 1;
    k.min[0] = 0;
    for (int i = 0; i < 64; ++i) k.codes[i] = static_cast<uint8_t>(block.qs[i / 4] >> (i % 4 * 2) & 3);
  }
};

}  // namespace tsubu
