// TQ1_0: 256 ternary weights in base 3, one f16 scale; 1.6875 bits per weight.
//   w = d · (digit - 1).
// A byte is the five-digit number t (first digit highest) as the fraction ceil(256 · t / 243): multiplying by 3 pushes
// the next digit out above bit 8. The digits of one place sit side by side: bytes 0 … 31 of qs give weights 32k … 32k +
// 31 for digit k, bytes 32 … 47 weights 160 + 16k …, and qh (four digits) weights 240 + 4k ….
// Source: ggml's block_tq1_0.
#pragma once

#include "codec/bytes.h"
#include "codec/codec.h"
#include "codec/grid.h"
#include "codec/single_scale.h"

namespace tsubu {

struct TQ1_0 {
  static constexpr std::string_view kName = "TQ1_0";
  static constexpr uint32_t kGgufId = 34;
  static constexpr uint32_t kBlockLen = 256;
  static constexpr bool kIsQuantized = true;
  static constexpr std::string_view kSummary = "ternary, five weights a byte, 256 a scale";
  static constexpr std::string_view kFallback = "Q4_0";
  struct Block {
    uint8_t qs[48];
    uint8_t qh[4];
    Half d;
  };
  static_assert(sizeof(Block) == 54 && alignof(Block) == 1);

  static TSUBU_INLINE bool has_finite_scales(const Block& block) { return block.d.is_finite(); }

  template <class L>
  static TSUBU_INLINE void store_digit(typename L::F d, typename L::I bytes, typename L::I power, float* y) {
    const auto fraction = L::bit_and(L::mul(bytes, power), L::set1_i(255));
    const auto digit = L::template shift_right<8>(L::mul(fraction, L::set1_i(3)));
    L::store(y, L::mul(d, L::to_float(L::sub(digit, L::set1_i(1)))));
  }

  template <class L>
  static TSUBU_INLINE void decode(const Block& block, float* y) {
    const auto d = L::set1(block.d.value());
    constexpr int kPower[5] = {1, 3, 9, 27, 81};
    for (int digit = 0; digit < 5; ++digit) {
      const auto power = L::set1_i(kPower[digit]);
      store_digit<L>(d, L::load_u8(block.qs), power, y + 32 * digit);
      store_digit<L>(d, L::load_u8(block.qs + 16), power, y + 32 * digit + 16);
      store_digit<L>(d, L::load_u8(block.qs + 32), power, y + 160 + 16 * digit);
    }
    const uint64_t last = read_u32(block.qh) * 0x100000001u;
    const auto powers = lanes_of<L>(0x0303030301010101u, 0x1b1b1b1b09090909u);
    store_digit<L>(d, L::bit_and(lanes_of<L>(last, last), L::set1_i(255)), powers, y + 240);
  }

  // The byte of five digits, first digit highest: the smallest fraction of 256 whose digits come out again.
  static TSUBU_INLINE uint8_t packed(uint32_t d0, uint32_t d1, uint32_t d2, uint32_t d3, uint32_t d4) {
    const uint32_t t = (((d0 * 3 + d1) * 3 + d2) * 3 + d3) * 3 + d4;
    return static_cast<uint8_t>((t * 256 + 242) / 243);
  }

  static constexpr double kMaxRelativeError = kTernaryMaxRelativeError;
  template <class L>
  static TSUBU_INLINE Block encode(const float* x, const float* importance, const Row&) {
    const auto fit = encode_single_scale<L, IntegerCodes<-1, 1>, 256>(x, importance, kTernaryLargest,
                                                                      kSingleScaleAround, kMaxRelativeError);
    return packed(fit.d, fit.codes);
  }

  static TSUBU_INLINE Block packed(Half d, const uint8_t* c) {
    Block block;
    block.d = d;
    for (int i = 0; i < 32; ++i) block.qs[i] = packed(c[i], c[32 + i], c[64 + i], c[96 + i], c[128 + i]);
    for (int i = 0; i < 16; ++i) block.qs[32 + i] = packed(c[160 + i], c[176 + i], c[192 + i], c[208 + i], c[224 + i]);
    for (int i = 0; i < 4; ++i) block.qh[i] = packed(c[240 + i], c[244 + i], c[248 + i], c[252 + i], 0);
    return block;
  }

  static constexpr GridSpec kGridSpec = integer_grid<-1, 1>(256, 1);
  static TSUBU_INLINE Block pack(const GridBlock& k) { return packed(k.d, k.codes); }
  static TSUBU_INLINE void unpack(const Block& block, GridBlock& k) {
    k.d = block.d;
    k.dmin = Half::of_bits(0);
    k.scale[0] = 1;
    k.min[0] = 0;
    constexpr int kPower[5] = {1, 3, 9, 27, 81};
    const auto digit = [&](uint8_t byte, int place) {
      return static_cast<uint8_t>((byte * kPower[place] & 255) * 3 >> 8);
    };
    for (int place = 0; place < 5; ++place) {
      for (int i = 0; i < 32; ++i) k.codes[32 * place + i] = digit(block.qs[i], place);
      for (int i = 0; i < 16; ++i) k.codes[160 + 16 * place + i] = digit(block.qs[32 + i], place);
      for (int i = 0; i < 4 && place < 4; ++i) k.codes[240 + 4 * place + i] = digit(block.qh[i], place);
    }
  }
};

}  // namespace tsubu
