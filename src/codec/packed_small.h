// The packed forms (codec/packed.h) of ternary types and of types of one, two or four bits with one scale for 32 weights or
// more.
#pragma once

#include "codec/bytes.h"
#include "codec/mxfp4.h"
#include "codec/packed.h"

namespace tsubu {

// One scale for 256 weights: every sub-block's is 1.
template <class Block>
struct TernaryForm {
  static constexpr int kSub = 32, kBias = 1;
  static constexpr bool kHasMins = false;
  static TSUBU_INLINE uint16_t d(const Block& b) { return b.d.bits(); }
  template <class B>
  static TSUBU_INLINE void scales(const Block&, typename B::I& scale, typename B::I&) { scale = B::L::set1_i(1); }
};

template <>
struct PackedForm<TQ2_0> : TernaryForm<TQ2_0::Block> {
  template <class B, int c>
  static TSUBU_INLINE typename B::V codes(const TQ2_0::Block& b) {
    return B::bit_and(B::shifted_halves(b.qs + 32 * (c / 2), 4 * (c % 2), 4 * (c % 2) + 2), B::set1(3));
  }
};

// Powers of three for 64 bytes of digits side by side; which bytes they are: codec/tq1_0.h.
struct TernaryPowers {
  uint8_t v[4][64];
  constexpr TernaryPowers() : v{} {
    constexpr uint8_t power[5] = {1, 3, 9, 27, 81};
    for (int i = 0; i < 64; ++i) {
      v[0][i] = power[i / 32];
      v[1][i] = power[2 + i / 32];
      v[2][i] = i < 32 ? power[4] : power[(i - 32) / 16];
      v[3][i] = i < 48 ? power[2 + i / 16] : power[(i - 48) / 4];
    }
  }
};

constexpr TernaryPowers kTernaryPowers;

template <>
struct PackedForm<TQ1_0> : TernaryForm<TQ1_0::Block> {
  template <class B, int c>
  static TSUBU_INLINE typename B::V codes(const TQ1_0::Block& b) {
    uint8_t bytes[64];
    if constexpr (c < 2) {
      __builtin_memcpy(bytes, b.qs, 32);
      __builtin_memcpy(bytes + 32, b.qs, 32);
    } else {
      __builtin_memcpy(bytes, b.qs + (c == 2 ? 0 : 32), 16);
      __builtin_memcpy(bytes + 16, b.qs + (c == 2 ? 16 : 32), 16);
      __builtin_memcpy(bytes + 32, b.qs + 32, 16);
      for (int i = 48; i < 64; i += 4) __builtin_memcpy(bytes + i, c == 2 ? b.qs + i - 16 : b.qh, 4);
    }
    // The digit of a fraction f of 256 is the whole part of 3 f: 1 from 86 on, 2 from 171 on.
    const auto fraction = B::mul_low(B::load(bytes), B::load(kTernaryPowers.v[c]));
    return B::add(B::bit_and(B::at_least(fraction, 86), B::set1(1)), B::bit_and(B::at_least(fraction, 171), B::set1(1)));
  }
};

constexpr uint8_t kE2m1Bytes[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};  // 2 · E2M1 + 12

template <>
struct PackedForm<MXFP4> {
  static constexpr int kSub = 32, kBias = 12;
  static constexpr bool kHasMins = false;
  static TSUBU_INLINE float d_value(const MXFP4::Block& b) { return e8m0_half(b.e); }
  template <class B>
  static TSUBU_INLINE typename B::V codes(const MXFP4::Block& a, const MXFP4::Block& b) {
    return B::lookup16(kE2m1Bytes, B::nibbles16(a.qs, b.qs));
  }
};

// Longer blocks with one scale are taken as parts of 32 weights.
template <>
struct PackedForm<Q2_0> : ShortForm<Q2_0::Block, 1> {
  template <class B>
  static TSUBU_INLINE typename B::V codes(const Q2_0::Block& a, size_t part_a, const Q2_0::Block& b, size_t part_b) {
    const uint64_t low = read_u64(a.qs + 8 * part_a), high = read_u64(b.qs + 8 * part_b);
    const auto four = [](uint64_t bytes, int i) __attribute__((always_inline)) {
      return spread_crumbs(static_cast<uint32_t>(bytes >> 16 * i));
    };
    return B::of_words(four(low, 0), four(low, 1), four(low, 2), four(low, 3), four(high, 0), four(high, 1), four(high, 2),
                       four(high, 3));
  }
};
template <>
struct PackedForm<Q1_0> : ShortForm<Q1_0::Block, 1> {
  template <class B>
  static TSUBU_INLINE typename B::V codes(const Q1_0::Block& a, size_t part_a, const Q1_0::Block& b, size_t part_b) {
    const uint64_t high = read_u32(b.qs + 4 * part_b);
    return B::spread_bits(read_u32(a.qs + 4 * part_a) | high << 32, 2);
  }
};

}  // namespace tsubu
