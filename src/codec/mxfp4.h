// MXFP4: 32 weights in FP4 (E2M1) with one shared power of two (E8M0); 4.25 bits per weight.
//   w = 2^(e - 127) · E2M1(code). Byte j of qs holds code j in its low nibble and code j + 16 in its high one.
// As in ggml, minus zero decodes as plus zero and e = 255 (NaN in the specification) as 2^128; has_finite_scales
// refuses that one.
// Source: OCP Microscaling Formats 1.0; ggml's block_mxfp4.
#pragma once

#include "codec/codec.h"
#include "codec/mx_scale.h"
#include "codec/nibbles.h"
#include "codec/small_floats.h"
#include "codec/symmetric_search.h"

namespace tsubu {

struct MXFP4 {
  static constexpr std::string_view kName = "MXFP4";
  static constexpr uint32_t kGgufId = 39;
  static constexpr uint32_t kBlockLen = 32;
  static constexpr bool kIsQuantized = true;
  static constexpr std::string_view kSummary = "4-bit float (E2M1), 32 weights a power-of-two scale";
  struct Block {
    uint8_t e;
    uint8_t qs[16];
  };
  static_assert(sizeof(Block) == 17 && alignof(Block) == 1);

  static TSUBU_INLINE bool has_finite_scales(const Block& block) { return block.e != 255; }

  template <class L>
  static TSUBU_INLINE void decode(const Block& block, float* y) {
    const auto half_scale = L::set1(e8m0_half(block.e));
    const auto bytes = L::load_u8(block.qs);
    L::store(y, L::mul(half_scale, L::lookup16(kE2m1Doubled, L::bit_and(bytes, L::set1_i(15)))));
    L::store(y + 16, L::mul(half_scale, L::lookup16(kE2m1Doubled, L::template shift_right<4>(bytes))));
  }

  // Without cutting off, half of the widest step, 1 · scale, in a block whose largest value is 4 · scale.
  static constexpr double kMaxRelativeError = kSearchSlack / 4;

  static TSUBU_INLINE uint8_t stored_exponent(int e) {
    return static_cast<uint8_t>(e < -127 ? 0 : e > 127 ? 254 : e + 127);
  }

  // Codes of 32 values under the scale of stored exponent e; the largest error.
  template <class L>
  static TSUBU_INLINE float round_codes(const float* x, uint8_t e, Block& block) {
    const float half_scale = e8m0_half(e);
    const auto factor = L::set1(half_scale);
    const auto inverse = L::set1(half_scale > kNegligible ? 1.0f / half_scale : 0.0f);
    const auto low = L::load(x);
    const auto high = L::load(x + 16);
    const auto low_t = L::mul(low, inverse);
    const auto high_t = L::mul(high, inverse);
    block.e = e;
    pack_4bit<L>({E2m1Codes::stored<L>(low_t), E2m1Codes::stored<L>(high_t)}, block.qs);
    const auto low_error = L::abs(L::sub(L::mul(factor, E2m1Codes::nearest<L>(low_t)), low));
    const auto high_error = L::abs(L::sub(L::mul(factor, E2m1Codes::nearest<L>(high_t)), high));
    return L::hmax(L::max(low_error, high_error));
  }

  // Plain rounding under one of the rules.
  template <class L>
  static TSUBU_INLINE Block encode_by_rule(const float* x, MxScaleRule rule) {
    Weighted<32> prepared;
    copy_clamped<L, 32>(x, prepared);
    Block block = {};
    if (prepared.largest < kNegligible) return block;
    round_codes<L>(prepared.x, stored_exponent(mx_exponent(rule, kE2m1Element, prepared.largest)), block);
    return block;
  }

  // The exponent with the least weighted error, of the specification's and those around it.
  template <class L>
  static TSUBU_INLINE Block encode(const float* x, const float* importance, const Row& row) {
    Weighted<32> prepared;
    copy_clamped<L, 32>(x, prepared);
    Block block = {};
    if (prepared.largest < kNegligible) return block;
    weigh<L, 32>(importance, importance ? row.mean_square : mean_square_of<L, 32>(prepared), prepared);
    const int middle = mx_exponent(MxScaleRule::kFloor, kE2m1Element, prepared.largest);
    float half_scale[kLanes];
    for (int i = 0; i < kLanes; ++i) half_scale[i] = e8m0_half(stored_exponent(middle + nearby(i)));
    const auto error = symmetric_error<L, E2m1Codes, 32>(prepared.x, prepared.w, L::load(half_scale));
    const int e = middle + nearby(best_lane<L>(L::neg(error)));
    const float limit = static_cast<float>(kMaxRelativeError) * prepared.largest;
    if (round_codes<L>(prepared.x, stored_exponent(e), block) > limit)
      round_codes<L>(prepared.x, stored_exponent(mx_exponent(MxScaleRule::kCeil, kE2m1Element, prepared.largest)),
                     block);
    return block;
  }

 private:
  // The specification's exponent, one more (nothing is cut off), one and two less.
  static TSUBU_INLINE int nearby(int i) { return i == 0 ? 0 : i == 1 ? 1 : i == 2 ? -1 : -2; }
};

}  // namespace tsubu
