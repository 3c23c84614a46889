// IQ4_NL: 32 weights as indices into sixteen unevenly spaced levels with one f16 scale; 4.5 bits per weight.
//   w = d · level[code] (codec/iq4.h). Codes are stored as in Q4_0. Source: ggml's block_iq4_nl.
#pragma once

#include "codec/codec.h"
#include "codec/grid.h"
#include "codec/iq4.h"
#include "codec/nibbles.h"
#include "codec/symmetric_panel.h"

namespace tsubu {

struct IQ4_NL {
  static constexpr std::string_view kName = "IQ4_NL";
  static constexpr uint32_t kGgufId = 20;
  static constexpr uint32_t kBlockLen = 32;
  static constexpr bool kIsQuantized = true;
  static constexpr std::string_view kSummary = "4-bit non-linear, 32 weights a scale";
  struct Block {
    Half d;
    uint8_t qs[16];
  };
  static_assert(sizeof(Block) == 18 && alignof(Block) == 1);

  static TSUBU_INLINE bool has_finite_scales(const Block& block) { return block.d.is_finite(); }

  template <class L>
  static TSUBU_INLINE void decode(const Block& block, float* y) {
    const auto d = L::set1(block.d.value());
    const Codes32<L> codes = unpack_4bit<L>(block.qs);
    L::store(y, L::mul(d, L::lookup16(kIq4Levels, codes.low)));
    L::store(y + 16, L::mul(d, L::lookup16(kIq4Levels, codes.high)));
  }

  // Plain rounding: the largest magnitude is level -127, its mirror image ends at 113; and the rounding of d to f16.
  static constexpr double kMaxRelativeError = kSearchSlack * (14.0 / 127 + 0x1p-11);
  template <class L>
  static TSUBU_INLINE void encode_panel(const float* x, const float* importance, const Row& row, Block* blocks, int n) {
    constexpr float kGrid[] = {88, 97, 105, 113, 120, 130, 150, -90, -98, -106, -113, -120, -127, -135, -150};
    encode_symmetric_panel<IQ4_NL, L, Iq4Codes>(x, importance, row, blocks, n, kGrid);
  }

  static constexpr GridSpec kGridSpec = iq4_grid(32, 1);
  static TSUBU_INLINE Block pack(const GridBlock& k) {
    Block block;
    block.d = k.d;
    pack_codes<4>(k.codes, block.qs, nullptr);
    return block;
  }
  static TSUBU_INLINE void unpack(const Block& block, GridBlock& k) {
    k.d = block.d;
    k.dmin = Half::of_bits(0);
    k.scale[0] = 1;
    k.min[0] = 0;
    unpack_codes<4>(block.qs, nullptr, k.codes);
  }
};

}  // namespace tsubu
