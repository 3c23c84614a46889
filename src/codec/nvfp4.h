// NVFP4: 64 weights in FP4 (E2M1), one UE4M3 scale per 16; 4.5 bits per weight.
//   w = UE4M3(d[s]) · E2M1(code); a further scale of the whole tensor, if any, is stored beside the tensor.
// Eight bytes of qs per scale: byte j holds code j in its low nibble and code j + 8 in its high one. As in ggml, minus
// zero decodes as plus zero and a scale of 0x7f (NaN in the specification) as zero; has_finite_scales refuses that one,
// and scales with the sign bit, which decoding ignores.
// Source: NVIDIA's NVFP4; ggml's block_nvfp4.
#pragma once

#include "codec/bytes.h"
#include "codec/codec.h"
#include "codec/small_floats.h"
#include "codec/symmetric_search.h"

namespace tsubu {

struct NVFP4 {
  static constexpr std::string_view kName = "NVFP4";
  static constexpr uint32_t kGgufId = 40;
  static constexpr uint32_t kBlockLen = 64;
  static constexpr bool kIsQuantized = true;
  static constexpr std::string_view kSummary = "4-bit float (E2M1), 16 weights an FP8 scale";
  struct Block {
    uint8_t d[4];
    uint8_t qs[32];
  };
  static_assert(sizeof(Block) == 36 && alignof(Block) == 1);

  static TSUBU_INLINE bool has_finite_scales(const Block& block) {
    for (const uint8_t scale : block.d)
      if (scale >= 0x7f) return false;
    return true;
  }

  template <class L>
  static TSUBU_INLINE void decode(const Block& block, float* y) {
    constexpr uint64_t kLowNibbles = 0x0f0f0f0f0f0f0f0fu;
    for (int group = 0; group < 4; ++group) {
      const auto half_scale = L::set1(ue4m3_half(block.d[group]));
      const uint64_t codes = read_u64(block.qs + 8 * group);
      const auto lanes = lanes_of<L>(codes & kLowNibbles, codes >> 4 & kLowNibbles);
      L::store(y + 16 * group, L::mul(half_scale, L::lookup16(kE2m1Doubled, lanes)));
    }
  }

  // Plain rounding: half of the widest step, 1 · scale, where the largest value is 6 · scale but for the scale's
  // rounding to three bits of mantissa. Scales range over 2^-9 … 448: below 2^-7 · 6 they are coarser than that.
  static constexpr double kMaxRelativeError = kSearchSlack / 6 * (1 + 0x1p-4);

  // The scale code nearest to x > 0.
  static TSUBU_INLINE int nearest_scale(float x) {
    if (x < 0x1p-6f) return static_cast<int>(x * 0x1p9f + 0.5f);
    if (!(x < 448.0f)) return 126;
    const int code = static_cast<int>((__builtin_bit_cast(uint32_t, x) + (1u << 19)) >> 20) - (120 << 3);
    return code < 126 ? code : 126;
  }
  static TSUBU_INLINE int scale_code(int code) { return code < 0 ? 0 : code > 126 ? 126 : code; }

  // Codes of 16 values; the largest error.
  template <class L>
  static TSUBU_INLINE float round_codes(const float* x, int scale, uint8_t* qs) {
    const float half_scale = ue4m3_half(static_cast<uint32_t>(scale));
    const auto v = L::load(x);
    const auto t = L::mul(v, L::set1(half_scale > 0 ? 1.0f / half_scale : 0.0f));
    uint8_t codes[16];
    L::store_u8(codes, E2m1Codes::stored<L>(t));
    for (int j = 0; j < 8; ++j) qs[j] = static_cast<uint8_t>(codes[j] | codes[j + 8] << 4);
    return L::hmax(L::abs(L::sub(L::mul(L::set1(half_scale), E2m1Codes::nearest<L>(t)), v)));
  }

  // The scale with the least weighted error among sixteen neighbors of the plain one: half of it to twice it. No scale
  // of the tensor: files made by llama.cpp's own quantizer have none either.
  template <class L>
  static TSUBU_INLINE Block encode(const float* x, const float* importance, const Row& row) {
    Weighted<64> prepared;
    copy_clamped<L, 64>(x, prepared);
    Block block = {};
    if (prepared.largest < kNegligible) return block;
    weigh<L, 64>(importance, importance ? row.mean_square : mean_square_of<L, 64>(prepared), prepared);
    for (int group = 0; group < 4; ++group) {
      const float* xs = prepared.x + 16 * group;
      const float largest = L::hmax(L::abs(L::load(xs)));
      const int plain = nearest_scale(largest / 6);
      float half_scale[kLanes];
      for (int i = 0; i < kLanes; ++i) half_scale[i] = ue4m3_half(static_cast<uint32_t>(scale_code(plain - 7 + i)));
      const auto error = symmetric_error<L, E2m1Codes, 16>(xs, prepared.w + 16 * group, L::load(half_scale));
      int scale = scale_code(plain - 7 + best_lane<L>(L::neg(error)));
      const float limit = static_cast<float>(kMaxRelativeError) * prepared.largest;
      if (round_codes<L>(xs, scale, block.qs + 8 * group) > limit) {
        scale = plain;
        round_codes<L>(xs, scale, block.qs + 8 * group);
      }
      block.d[group] = static_cast<uint8_t>(scale);
    }
    return block;
  }
};

}  // namespace tsubu
