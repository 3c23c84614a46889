// The packed forms (codec/packed.h) of types whose weights are points of a grid: IQ1, IQ2 and IQ3. Points are looked up, signs
// put on and the bias added, so that codes are bytes from zero on; odd multiples of a part of d are the integer scales.
#pragma once

#include "codec/bytes.h"
#include "codec/iq_grids.h"
#include "codec/packed.h"

namespace tsubu {

template <class Block, int sub, int bias>
struct PointForm {
  static constexpr int kSub = sub, kBias = bias;
  static constexpr bool kHasMins = false;
  static TSUBU_INLINE uint16_t d(const Block& b) { return b.d.bits(); }
  // Eight points of eight coordinates, as bytes with the bias; bit i of minus is the sign of coordinate i.
  template <class B>
  static TSUBU_INLINE typename B::V with_bias(typename B::V magnitudes, uint64_t minus) {
    const auto mask = B::spread_bits(minus, 255);
    return B::add(B::bit_xor(magnitudes, mask), B::add(B::set1(bias), B::bit_and(mask, B::set1(1))));
  }
  // Lanes of 2 · s + 1 for sixteen scales as bytes.
  template <class B>
  static TSUBU_INLINE typename B::I odd(const uint8_t* scales) {
    const auto s = B::L::load_u8(scales);
    return B::L::add(B::L::add(s, s), B::L::set1_i(1));
  }
  // The same for nibbles of eight bytes, low ones first.
  template <class B>
  static TSUBU_INLINE typename B::I odd_nibbles(const uint8_t* nibbles) {
    uint8_t s[16];
    for (int i = 0; i < 16; ++i) s[i] = static_cast<uint8_t>(nibble(nibbles, i));
    return odd<B>(s);
  }
  // Eight scales of 32 weights each.
  template <class B>
  static TSUBU_INLINE typename B::I odd_pairs(const uint8_t* eight) {
    const auto s = B::pairs(eight);
    return B::L::add(B::L::add(s, s), B::L::set1_i(1));
  }
};

// Two words whose low 28 bits are four times seven signs: eight times eight signs, with an even number of minuses each.
TSUBU_INLINE uint64_t even_signs_of_words(uint32_t first, uint32_t second) {
  const uint64_t x = first | static_cast<uint64_t>(second) << 32;
  uint64_t s = (x & 0x0000007f0000007fu) | (x & 0x00003f8000003f80u) << 1 | (x & 0x001fc000001fc000u) << 2 |
               (x & 0x0fe000000fe00000u) << 3;
  uint64_t parity = s ^ s >> 4;  // bits of other bytes come in above bit 3 only
  parity ^= parity >> 2;
  parity ^= parity >> 1;
  return s | (parity & 0x0101010101010101u) << 7;
}

template <>
struct PackedForm<IQ2_XXS> : PointForm<IQ2_XXS::Block, 32, 64> {
  using Block = IQ2_XXS::Block;
  static constexpr float kFactor = 0.125f;
  template <class B, int c>
  static TSUBU_INLINE typename B::V codes(const Block& b) {
    const uint8_t *p = b.qs + 16 * c, *q = p + 8;
    const auto& at = kIq2xxsGrid.points;
    const auto points = B::of_words(at[p[0]], at[p[1]], at[p[2]], at[p[3]], at[q[0]], at[q[1]], at[q[2]], at[q[3]]);
    return with_bias<B>(points, even_signs_of_words(read_u32(p + 4), read_u32(q + 4)));
  }
  template <class B>
  static TSUBU_INLINE void scales(const Block& b, typename B::I& scale, typename B::I&) {
    uint8_t s[8];
    for (int g = 0; g < 8; ++g) s[g] = b.qs[8 * g + 7] >> 4;
    scale = odd_pairs<B>(s);
  }
};

template <>
struct PackedForm<IQ2_XS> : PointForm<IQ2_XS::Block, 16, 64> {
  using Block = IQ2_XS::Block;
  static constexpr float kFactor = 0.125f;
  template <class B, int c>
  static TSUBU_INLINE typename B::V codes(const Block& b) {
    const uint8_t* p = b.qs + 16 * c;
    const uint64_t low = read_u64(p), high = read_u64(p + 8);
    const auto at = [](uint64_t words, int i) __attribute__((always_inline)) { return kIq2xsGrid.points[words >> 16 * i & 511]; };
    const auto points = B::of_words(at(low, 0), at(low, 1), at(low, 2), at(low, 3), at(high, 0), at(high, 1), at(high, 2), at(high, 3));
    // Seven signs on top of each 16-bit word.
    const auto signs = [](uint64_t words) __attribute__((always_inline)) {
      uint64_t s = words >> 9 & 0x007f007f007f007fu;
      s = (s | s >> 9) & 0x00003fff00003fffu;
      return static_cast<uint32_t>(s | s >> 18);
    };
    return with_bias<B>(points, even_signs_of_words(signs(low), signs(high)));
  }
  template <class B>
  static TSUBU_INLINE void scales(const Block& b, typename B::I& scale, typename B::I&) {
    scale = odd_nibbles<B>(b.scales);
  }
};

template <>
struct PackedForm<IQ2_S> : PointForm<IQ2_S::Block, 16, 64> {
  using Block = IQ2_S::Block;
  static constexpr float kFactor = 0.125f;
  template <class B, int c>
  static TSUBU_INLINE typename B::V codes(const Block& b) {
    const uint8_t* p = b.qs + 8 * c;
    const uint32_t high = read_u16(b.qh + 2 * c);
    const auto at = [&](int i) __attribute__((always_inline)) { return kIq2sGrid.points[p[i] | (high >> 2 * i & 3) << 8]; };
    return with_bias<B>(B::of_words(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7)), read_u64(b.signs + 8 * c));
  }
  template <class B>
  static TSUBU_INLINE void scales(const Block& b, typename B::I& scale, typename B::I&) {
    scale = odd_nibbles<B>(b.scales);
  }
};

template <>
struct PackedForm<IQ3_XXS> : PointForm<IQ3_XXS::Block, 32, 64> {
  using Block = IQ3_XXS::Block;
  static constexpr float kFactor = 0.25f;
  template <class B, int c>
  static TSUBU_INLINE typename B::V codes(const Block& b) {
    const auto points = B::gather(kIq3xxsGrid.points, B::L::load_u8(b.qs + 16 * c));
    return with_bias<B>(points, even_signs_of_words(read_u32(b.words + 8 * c), read_u32(b.words + 8 * c + 4)));
  }
  template <class B>
  static TSUBU_INLINE void scales(const Block& b, typename B::I& scale, typename B::I&) {
    uint8_t s[8];
    for (int g = 0; g < 8; ++g) s[g] = b.words[4 * g + 3] >> 4;
    scale = odd_pairs<B>(s);
  }
};

template <>
struct PackedForm<IQ3_S> : PointForm<IQ3_S::Block, 32, 16> {
  using Block = IQ3_S::Block;
  template <class B, int c>
  static TSUBU_INLINE typename B::V codes(const Block& b) {
    using L = typename B::L;
    const auto high = L::select(L::mask_of(read_u16(b.qh + 2 * c)), L::set1_i(256), L::set1_i(0));
    const auto points = B::gather(kIq3sGrid.points, L::bit_or(L::load_u8(b.qs + 16 * c), high));
    return with_bias<B>(points, read_u64(b.signs + 8 * c));
  }
  template <class B>
  static TSUBU_INLINE void scales(const Block& b, typename B::I& scale, typename B::I&) {
    uint8_t s[8];
    for (int g = 0; g < 8; ++g) s[g] = static_cast<uint8_t>(nibble(b.scales, g));
    scale = odd_pairs<B>(s);
  }
};

// Eighths: 8 · level ± 1.
template <class Block, int sub>
struct ShiftedPointForm : PointForm<Block, sub, 16> {
  static constexpr float kFactor = 0.125f;
  template <class B>
  static TSUBU_INLINE typename B::V eighths(typename B::V levels, uint64_t minus) {
    const auto shifts = B::bit_xor(B::set1(16 + 1), B::spread_bits(minus, (16 + 1) ^ (16 - 1)));
    return B::add(B::bit_and(B::shift_left(levels, 3), B::set1(0xf8)), shifts);
  }
};

template <>
struct PackedForm<IQ1_S> : ShiftedPointForm<IQ1_S::Block, 32> {
  using Block = IQ1_S::Block;
  template <class B, int c>
  static TSUBU_INLINE typename B::V codes(const Block& b) {
    const uint8_t* p = b.qs + 8 * c;
    const uint32_t first = read_u16(b.qh + 4 * c), second = read_u16(b.qh + 4 * c + 2);
    const auto at = [&](uint32_t word, int i) __attribute__((always_inline)) {
      return kIq1sGrid.points[p[i] | (word >> 3 * (i % 4) & 7) << 8];
    };
    const auto points = B::of_words(at(first, 0), at(first, 1), at(first, 2), at(first, 3), at(second, 4), at(second, 5),
                                    at(second, 6), at(second, 7));
    const uint64_t minus = (first & 0x8000 ? 0xffffffffu : 0u) | (second & 0x8000 ? 0xffffffff00000000u : 0u);
    return eighths<B>(points, minus);
  }
  template <class B>
  static TSUBU_INLINE void scales(const Block& b, typename B::I& scale, typename B::I&) {
    uint8_t s[8];
    for (int g = 0; g < 8; ++g) s[g] = b.qh[2 * g + 1] >> 4 & 7;
    scale = odd_pairs<B>(s);
  }
};

template <>
struct PackedForm<IQ1_M> : ShiftedPointForm<IQ1_M::Block, 16> {
  using Block = IQ1_M::Block;
  static TSUBU_INLINE uint16_t d(const Block& b) { return b.d().bits(); }
  template <class B, int c>
  static TSUBU_INLINE typename B::V codes(const Block& b) {
    const uint8_t* p = b.qs + 8 * c;
    const uint32_t high = read_u32(b.qh + 4 * c);
    const auto at = [&](int i) __attribute__((always_inline)) { return kIq1sGrid.points[p[i] | (high >> 4 * i & 7) << 8]; };
    const auto points = B::of_words(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7));
    uint64_t minus = 0;
    for (int i = 0; i < 8; ++i) minus |= (high >> (4 * i + 3) & 1 ? uint64_t{255} : 0) << 8 * i;
    return eighths<B>(points, minus);
  }
  template <class B>
  static TSUBU_INLINE void scales(const Block& b, typename B::I& scale, typename B::I&) {
    uint8_t s[16];
    for (int i = 0; i < 16; ++i) s[i] = static_cast<uint8_t>(read_u16(b.scales + i / 4 * 2) >> 3 * (i % 4) & 7);
    scale = odd<B>(s);
  }
};

}  // namespace tsubu
