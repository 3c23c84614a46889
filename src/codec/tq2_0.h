// TQ2_0: 256 ternary weights of two bits, one f16 scale; 2.0625 bits per weight.
//   w = d · (code - 1); code 3 is not written by encoders and decodes as 2 · d.
// Bytes 0 … 31 of qs hold weights 32k … 32k + 31 in bits 2k, 2k + 1; bytes 32 … 63 hold the second 128 weights the same
// way.
// Source: ggml's block_tq2_0.
#pragma once

#include "codec/bytes.h"
#include "codec/codec.h"
#include "codec/grid.h"
#include "codec/single_scale.h"

namespace tsubu {

struct TQ2_0 {
  static constexpr std::string_view kName = "TQ2_0";
  static constexpr uint32_t kGgufId = 35;
  static constexpr uint32_t kBlockLen = 256;
  static constexpr bool kIsQuantized = true;
  static constexpr std::string_view kSummary = "ternary, four weights a byte, 256 a scale";
  static constexpr std::string_view kFallback = "Q4_0";
  struct Block {
    uint8_t qs[64];
    Half d;
  };
  static_assert(sizeof(Block) == 66 && alignof(Block) == 1);

  static TSUBU_INLINE bool has_finite_scales(const Block& block) { return block.d.is_finite(); }

  template <class L>
  static TSUBU_INLINE void store_crumbs(typename L::F d, typename L::I bytes, float* y) {
    const auto code = L::bit_and(bytes, L::set1_i(3));
    L::store(y, L::mul(d, L::to_float(L::sub(code, L::set1_i(1)))));
  }

  template <class L>
  static TSUBU_INLINE void decode(const Block& block, float* y) {
    const auto d = L::set1(block.d.value());
    for (int i = 0; i < 64; i += 16) {
      const auto bytes = L::load_u8(block.qs + i);
      float* const out = y + i / 32 * 128 + i % 32;
      store_crumbs<L>(d, bytes, out);
      store_crumbs<L>(d, L::template shift_right<2>(bytes), out + 32);
      store_crumbs<L>(d, L::template shift_right<4>(bytes), out + 64);
      store_crumbs<L>(d, L::template shift_right<6>(bytes), out + 96);
    }
  }

  static constexpr double kMaxRelativeError = kTernaryMaxRelativeError;
  template <class L>
  static TSUBU_INLINE Block encode(const float* x, const float* importance, const Row&) {
    const auto fit = encode_single_scale<L, IntegerCodes<-1, 1>, 256>(x, importance, kTernaryLargest,
                                                                      kSingleScaleAround, kMaxRelativeError);
    return packed(fit.d, fit.codes);
  }

  static TSUBU_INLINE Block packed(Half d, const uint8_t* codes) {
    Block block;
    block.d = d;
    for (int i = 0; i < 64; ++i) {
      const uint8_t* c = codes + i / 32 * 128 + i % 32;
      block.qs[i] = static_cast<uint8_t>(c[0] | c[32] << 2 | c[64] << 4 | c[96] << 6);
    }
    return block;
  }

  static constexpr GridSpec kGridSpec = integer_grid<-1, 1>(256, 1);
  static TSUBU_INLINE Block pack(const GridBlock& k) { return packed(k.d, k.codes); }
  static TSUBU_INLINE void unpack(const Block& block, GridBlock& k) {
    k.d = block.d;
    k.dmin = Half::of_bits(0);
    k.scale[0] = 1;
    k.min[0] = 0;
    for (int i = 0; i < 256; ++i) {
      const int code = block.qs[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
      k.codes[i] = static_cast<uint8_t>(code < 2 ? code : 2);  // code 3 is no level of the grid
    }
  }
};

}  // namespace tsubu
