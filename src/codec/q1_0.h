// Q1_0: 128 weights of one sign bit with one f16 scale; 1.125 bits per weight.
//   w = d where bit i of qs (lowest first) is 1, -d where it is 0.
// Source: ggml's block_q1_0.
#pragma once

#include "codec/bytes.h"
#include "codec/codec.h"
#include "codec/grid.h"
#include "codec/weights.h"

namespace tsubu {

struct Q1_0 {
  static constexpr std::string_view kName = "Q1_0";
  static constexpr uint32_t kGgufId = 41;
  static constexpr uint32_t kBlockLen = 128;
  static constexpr bool kIsQuantized = true;
  static constexpr std::string_view kSummary = "1-bit: signs, 128 weights a scale";
  struct Block {
    Half d;
    uint8_t qs[16];
  };
  static_assert(sizeof(Block) == 18 && alignof(Block) == 1);

  static TSUBU_INLINE bool has_finite_scales(const Block& block) { return block.d.is_finite(); }

  template <class L>
  static TSUBU_INLINE void decode(const Block& block, float* y) {
    constexpr uint64_t kOnes = 0x0101010101010101u;
    const auto d = L::set1(block.d.value());
    for (int i = 0; i < 8; ++i) {
      const uint32_t minus = ~read_u16(block.qs + 2 * i);
      const auto signs = lanes_of<L>(with_signs(kOnes, minus), with_signs(kOnes, minus >> 8));
      L::store(y + 16 * i, L::mul(d, L::to_float(signs)));
    }
  }

  // Signs are kept and d is a mean of magnitudes: no error is larger than the largest value, but for d's rounding to
  // f16.
  static constexpr double kMaxRelativeError = 1 + 0x1p-10;
  template <class L>
  static TSUBU_INLINE Block encode(const float* x, const float* importance, const Row&) {
    Block block = {};
    Weighted<128> prepared;
    copy_clamped<L, 128>(x, prepared);
    if (prepared.largest < kNegligible) return block;
    // Σ w |x| / Σ w; the importance alone, as no outlier can be kept in range; all the same if it says nothing.
    float mean = 0;
    for (int attempt = importance ? 0 : 1; attempt < 2; ++attempt) {
      auto sum = L::zero();
      auto weights = L::zero();
      for (int i = 0; i < 128; i += kLanes) {
        const auto v = L::load(prepared.x + i);
        const auto w = attempt == 0 ? L::load(importance + i) : L::set1(1.0f);
        sum = L::add(sum, L::mul(w, L::abs(v)));
        weights = L::add(weights, w);
        const uint32_t plus = ~L::mask_bits(L::lt(v, L::zero()));
        block.qs[i / 8] = static_cast<uint8_t>(plus);
        block.qs[i / 8 + 1] = static_cast<uint8_t>(plus >> 8);
      }
      const float total = L::hsum(weights);
      mean = L::hsum(sum) / total;
      if (total > 0x1p-80f && total < 0x1p80f) break;
    }
    block.d = Half::of(mean);
    return block;
  }

  static constexpr float kLevels[2] = {-1, 1};
  static constexpr GridSpec kGridSpec = {128, 1, 128, 1, 1, 0, 0, kLevels, 2, false};
  static TSUBU_INLINE Block pack(const GridBlock& k) {
    Block block = {};
    block.d = k.d;
    for (int i = 0; i < 128; ++i) block.qs[i / 8] = static_cast<uint8_t>(block.qs[i / 8] | k.codes[i] << (i % 8));
    return block;
  }
  static TSUBU_INLINE void unpack(const Block& block, GridBlock& k) {
    k.d = block.d;
    k.dmin = Half::of_bits(0);
    k.scale[0] = 1;
    k.min[0] = 0;
    for (int i = 0; i < 128; ++i) k.codes[i] = static_cast<uint8_t>(block.qs[i / 8] >> (i % 8) & 1);
  }
};

}  // namespace tsubu
