// What products with 8-bit activations need of a codec: its packed block as unsigned byte codes under integer scales.
//   w = d · kFactor · scale[s] · (code - kBias) + offset · min[s]     for weights of sub-block s, kSub each.
// PackedForm<C> is specialized for every codec that has the form (codec/packed_*.h too); a kernel needs no more to have it on
// the fast path. Codes are at most kMostCode (127 without), or it has kByteCodes and a bias of 128. d is the bits of an f16 (then
// kFactor, a power of two, may be left out), or d_value a float.
// Super-blocks of 256 give chunk c of 64 codes, and scales and minimums as sixteen lanes, one for each 16 weights. Blocks
// of 32 have one scale and give the codes of two blocks at a time; longer blocks with one scale give those of parts of 32.
#pragma once

#include "codec/byte_lanes.h"
#include "codec/codecs.h"
#include "codec/iq4.h"

namespace tsubu {

template <class C>
struct PackedForm {};

template <class C>
concept HasPackedForm = requires { PackedForm<C>::kBias; };

// Columns that share a scale of the activations, and a block's parts of so many.
template <class C>
inline constexpr size_t kPackedUnit = C::kBlockLen == 256 ? 256 : 32;
template <class C>
inline constexpr size_t kPackedParts = C::kBlockLen / kPackedUnit<C>;

// unpack_k_scales on words: eight scales, eight minimums.
struct KScaleBytes {
  uint8_t scale[8], min[8];
};
TSUBU_INLINE KScaleBytes k_scale_bytes(const uint8_t* bytes) {
  uint32_t a, b, c;
  __builtin_memcpy(&a, bytes, 4);
  __builtin_memcpy(&b, bytes + 4, 4);
  __builtin_memcpy(&c, bytes + 8, 4);
  const uint32_t words[4] = {a & 0x3f3f3f3fu, (c & 0x0f0f0f0fu) | (a >> 6 & 0x03030303u) << 4, b & 0x3f3f3f3fu,
                             (c >> 4 & 0x0f0f0f0fu) | (b >> 6 & 0x03030303u) << 4};
  KScaleBytes s;
  __builtin_memcpy(s.scale, words, 8);
  __builtin_memcpy(s.min, words + 2, 8);
  return s;
}

inline constexpr uint8_t kIq4Bytes[16] = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};  // + 128

// Plain halves: products with f32 activations need no codes.
template <>
struct PackedForm<F16> {
  static constexpr bool kBrain = false;
};
template <>
struct PackedForm<BF16> {
  static constexpr bool kBrain = true;
};

template <class Block>
struct AffineKForm {
  static constexpr int kSub = 32, kBias = 0;
  static constexpr bool kHasMins = true;
  static TSUBU_INLINE uint16_t d(const Block& b) { return b.d.bits(); }
  static TSUBU_INLINE uint16_t offset(const Block& b) { return b.dmin.bits() ^ 0x8000u; }
  template <class B>
  static TSUBU_INLINE void scales(const Block& b, typename B::I& scale, typename B::I& min) {
    const KScaleBytes s = k_scale_bytes(b.scales);
    scale = B::pairs(s.scale);
    min = B::pairs(s.min);
  }
};

template <>
struct PackedForm<Q4_K> : AffineKForm<Q4_K::Block> {
  static constexpr int kMostCode = 15;
  template <class B, int c>
  static TSUBU_INLINE typename B::V codes(const Q4_K::Block& b) { return B::nibbles(b.qs + 32 * c); }
};

template <>
struct PackedForm<Q5_K> : AffineKForm<Q5_K::Block> {
  static constexpr int kMostCode = 31;
  template <class B, int c>
  static TSUBU_INLINE typename B::V codes(const Q5_K::Block& b) {
    const auto fifth = B::bit_and(B::shifted_halves(b.qh, 2 * c, 2 * c + 1), B::set1(1));
    return B::bit_or(B::nibbles(b.qs + 32 * c), B::shift_left(fifth, 4));
  }
};

template <>
struct PackedForm<Q2_K> {
  using Block = Q2_K::Block;
  static constexpr int kMostCode = 3;
  static constexpr int kSub = 16, kBias = 0;
  static constexpr bool kHasMins = true;
  static TSUBU_INLINE uint16_t d(const Block& b) { return b.d.bits(); }
  static TSUBU_INLINE uint16_t offset(const Block& b) { return b.dmin.bits() ^ 0x8000u; }
  template <class B, int c>
  static TSUBU_INLINE typename B::V codes(const Block& b) {
    return B::bit_and(B::shifted_halves(b.qs + 32 * (c / 2), 4 * (c % 2), 4 * (c % 2) + 2), B::set1(3));
  }
  template <class B>
  static TSUBU_INLINE void scales(const Block& b, typename B::I& scale, typename B::I& min) {
    const auto both = B::L::load_u8(b.scales);
    scale = B::L::bit_and(both, B::L::set1_i(15));
    min = B::L::template shift_right<4>(both);
  }
};

template <>
struct PackedForm<Q3_K> {
  using Block = Q3_K::Block;
  static constexpr int kMostCode = 7;
  static constexpr int kSub = 16, kBias = 4;
  static constexpr bool kHasMins = false;
  static TSUBU_INLINE uint16_t d(const Block& b) { return b.d.bits(); }
  template <class B, int c>
  static TSUBU_INLINE typename B::V codes(const Block& b) {
    const auto low = B::bit_and(B::shifted_halves(b.qs + 32 * (c / 2), 4 * (c % 2), 4 * (c % 2) + 2), B::set1(3));
    const auto high = B::bit_and(B::shifted_halves(b.hmask, 2 * c, 2 * c + 1), B::set1(1));
    return B::bit_or(low, B::shift_left(high, 2));
  }
  template <class B>
  static TSUBU_INLINE void scales(const Block& b, typename B::I& scale, typename B::I&) {
    uint32_t a, l, h;
    __builtin_memcpy(&a, b.scales, 4);
    __builtin_memcpy(&l, b.scales + 4, 4);
    __builtin_memcpy(&h, b.scales + 8, 4);
    const uint32_t nibble = 0x0f0f0f0fu, two = 0x03030303u;
    const uint32_t words[4] = {(a & nibble) | (h & two) << 4, (l & nibble) | (h >> 2 & two) << 4,
                               (a >> 4 & nibble) | (h >> 4 & two) << 4, (l >> 4 & nibble) | (h >> 6 & two) << 4};
    uint8_t bytes[16];
    __builtin_memcpy(bytes, words, 16);
    scale = B::L::sub(B::L::load_u8(bytes), B::L::set1_i(32));
  }
};

template <>
struct PackedForm<Q6_K> {
  using Block = Q6_K::Block;
  static constexpr int kMostCode = 63;
  static constexpr int kSub = 16, kBias = 32;
  static constexpr bool kHasMins = false;
  static TSUBU_INLINE uint16_t d(const Block& b) { return b.d.bits(); }
  template <class B, int c>
  static TSUBU_INLINE typename B::V codes(const Block& b) {
    const auto bytes = B::load(b.ql + 64 * (c / 2));
    const auto low = B::bit_and(c % 2 ? B::shift_right(bytes, 4) : bytes, B::set1(15));
    const auto high = B::bit_and(B::shifted_halves(b.qh + 32 * (c / 2), 4 * (c % 2), 4 * (c % 2) + 2), B::set1(3));
    return B::bit_or(low, B::shift_left(high, 4));
  }
  template <class B>
  static TSUBU_INLINE void scales(const Block& b, typename B::I& scale, typename B::I&) {
    scale = B::L::load_i8(b.scales);
  }
};

template <>
struct PackedForm<IQ4_XS> {
  using Block = IQ4_XS::Block;
  static constexpr int kSub = 32, kBias = 128;
  static constexpr bool kByteCodes = true;
  static constexpr bool kHasMins = false;
  static TSUBU_INLINE uint16_t d(const Block& b) { return b.d.bits(); }
  template <class B, int c>
  static TSUBU_INLINE typename B::V codes(const Block& b) {
    return B::lookup16(kIq4Bytes, B::nibbles16(b.qs + 32 * c, b.qs + 32 * c + 16));
  }
  template <class B>
  static TSUBU_INLINE void scales(const Block& b, typename B::I& scale, typename B::I&) {
    const int high = b.scales_h[0] | b.scales_h[1] << 8;
    uint8_t bytes[8];
    for (int s = 0; s < 8; ++s)
      bytes[s] = static_cast<uint8_t>((b.scales_l[s / 2] >> (4 * (s % 2)) & 15) | (high >> (2 * s) & 3) << 4);
    scale = B::L::sub(B::pairs(bytes), B::L::set1_i(32));
  }
};

template <class Block, int bias>
struct ShortForm {
  static constexpr int kSub = 32, kBias = bias;
  static constexpr bool kHasMins = false;
  static TSUBU_INLINE uint16_t d(const Block& b) { return b.d.bits(); }
};
template <class Block>
struct ShortAffineForm : ShortForm<Block, 0> {
  static constexpr bool kHasMins = true;
  static TSUBU_INLINE uint16_t offset(const Block& b) { return b.m.bits(); }
};
template <class B, class Block>
TSUBU_INLINE typename B::V five_bit_codes(const Block& a, const Block& b) {
  uint32_t low, high;
  __builtin_memcpy(&low, a.qh, 4);
  __builtin_memcpy(&high, b.qh, 4);
  return B::bit_or(B::nibbles16(a.qs, b.qs), B::spread_bits(low | static_cast<uint64_t>(high) << 32, 16));
}

template <>
struct PackedForm<Q8_0> : ShortForm<Q8_0::Block, 128> {
  static constexpr bool kByteCodes = true;
  template <class B>
  static TSUBU_INLINE typename B::V codes(const Q8_0::Block& a, const Q8_0::Block& b) {
    return B::bit_xor(B::load_halves(a.qs, b.qs), B::set1(128));
  }
};
template <>
struct PackedForm<Q4_0> : ShortForm<Q4_0::Block, 8> {
  static constexpr int kMostCode = 15;
  template <class B>
  static TSUBU_INLINE typename B::V codes(const Q4_0::Block& a, const Q4_0::Block& b) { return B::nibbles16(a.qs, b.qs); }
};
template <>
struct PackedForm<IQ4_NL> : ShortForm<IQ4_NL::Block, 128> {
  static constexpr bool kByteCodes = true;
  template <class B>
  static TSUBU_INLINE typename B::V codes(const IQ4_NL::Block& a, const IQ4_NL::Block& b) {
    return B::lookup16(kIq4Bytes, B::nibbles16(a.qs, b.qs));
  }
};
template <>
struct PackedForm<Q5_0> : ShortForm<Q5_0::Block, 16> {
  static constexpr int kMostCode = 31;
  template <class B>
  static TSUBU_INLINE typename B::V codes(const Q5_0::Block& a, const Q5_0::Block& b) { return five_bit_codes<B>(a, b); }
};
template <>
struct PackedForm<Q4_1> : ShortAffineForm<Q4_1::Block> {
  static constexpr int kMostCode = 15;
  template <class B>
  static TSUBU_INLINE typename B::V codes(const Q4_1::Block& a, const Q4_1::Block& b) { return B::nibbles16(a.qs, b.qs); }
};
template <>
struct PackedForm<Q5_1> : ShortAffineForm<Q5_1::Block> {
  static constexpr int kMostCode = 31;
  template <class B>
  static TSUBU_INLINE typename B::V codes(const Q5_1::Block& a, const Q5_1::Block& b) { return five_bit_codes<B>(a, b); }
};

}  // namespace tsubu
