// The byte vocabulary: sixty-four bytes at a time beside the sixteen lanes of codec/lanes.h. Packed codes are taken apart
// into bytes and multiplied with bytes; everything is an exact integer operation, so every instruction set gives the same
// numbers. This portable one is the meaning, kernel/byte_lanes_*.h are the same operations in intrinsics.
#pragma once

#include <cstdint>

#include "codec/lanes.h"

namespace tsubu {

struct PortableBytes {
  using L = PortableLanes;
  using I = L::I;
  struct V { uint8_t v[64]; };

#define TSUBU_EACH for (int i = 0; i < 64; ++i)
  static TSUBU_INLINE V load(const void* p) { V r; __builtin_memcpy(r.v, p, 64); return r; }
  static TSUBU_INLINE V load_halves(const void* a, const void* b) {
    V r;
    __builtin_memcpy(r.v, a, 32);
    __builtin_memcpy(r.v + 32, b, 32);
    return r;
  }
  static TSUBU_INLINE void store(void* p, V a) { __builtin_memcpy(p, a.v, 64); }
  // Low nibbles of 32 bytes, then their high nibbles.
  static TSUBU_INLINE V nibbles(const uint8_t* p) { V r; TSUBU_EACH r.v[i] = i < 32 ? p[i] & 15 : p[i - 32] >> 4; return r; }
  // Low nibbles of 16 bytes, then their high nibbles; of a in the lower half, of b in the upper one.
  static TSUBU_INLINE V nibbles16(const uint8_t* a, const uint8_t* b) {
    V r;
    TSUBU_EACH {
      const uint8_t byte = i < 32 ? a[i % 16] : b[i % 16];
      r.v[i] = i / 16 % 2 ? byte >> 4 : byte & 15;
    }
    return r;
  }
  static TSUBU_INLINE V set1(uint8_t x) { V r; TSUBU_EACH r.v[i] = x; return r; }
  static TSUBU_INLINE V bit_and(V a, V b) { TSUBU_EACH a.v[i] &= b.v[i]; return a; }
  static TSUBU_INLINE V bit_or(V a, V b) { TSUBU_EACH a.v[i] |= b.v[i]; return a; }
  static TSUBU_INLINE V bit_xor(V a, V b) { TSUBU_EACH a.v[i] ^= b.v[i]; return a; }
  static TSUBU_INLINE V add(V a, V b) { TSUBU_EACH a.v[i] = static_cast<uint8_t>(a.v[i] + b.v[i]); return a; }
  static TSUBU_INLINE V mul_low(V a, V b) { TSUBU_EACH a.v[i] = static_cast<uint8_t>(a.v[i] * b.v[i]); return a; }  // modulo 256
  static TSUBU_INLINE V at_least(V a, uint8_t x) { TSUBU_EACH a.v[i] = a.v[i] >= x ? 255 : 0; return a; }
  // Eight words of eight bytes, the lowest byte of the first one first.
  static TSUBU_INLINE V of_words(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f, uint64_t g, uint64_t h) {
    const uint64_t words[8] = {a, b, c, d, e, f, g, h};
    return load(words);
  }
  // Sixteen words of four bytes of a table, by the lanes of i.
  static TSUBU_INLINE V gather(const uint32_t* table, I i) {
    uint32_t words[16];
    for (int l = 0; l < kLanes; ++l) words[l] = table[i.v[l]];
    return load(words);
  }
  // Of 16-bit words: bits of a neighbor byte come in, mask them away.
  static TSUBU_INLINE V shift_right(V a, int n) {
    V r;
    for (int i = 0; i < 64; i += 2) {
      const unsigned word = (a.v[i] | static_cast<unsigned>(a.v[i + 1]) << 8) >> n;
      r.v[i] = static_cast<uint8_t>(word);
      r.v[i + 1] = static_cast<uint8_t>(word >> 8);
    }
    return r;
  }
  static TSUBU_INLINE V shift_left(V a, int n) {
    V r;
    for (int i = 0; i < 64; i += 2) {
      const unsigned word = (a.v[i] | static_cast<unsigned>(a.v[i + 1]) << 8) << n;
      r.v[i] = static_cast<uint8_t>(word);
      r.v[i + 1] = static_cast<uint8_t>(word >> 8);
    }
    return r;
  }
  // 32 bytes shifted right by n, then the same bytes by m.
  static TSUBU_INLINE V shifted_halves(const void* p, int n, int m) {
    const V v = load_halves(p, p), low = shift_right(v, n), high = shift_right(v, m);
    V r;
    TSUBU_EACH r.v[i] = i < 32 ? low.v[i] : high.v[i];
    return r;
  }
  // Bit i of 64 as a byte of 0 or `value`.
  static TSUBU_INLINE V spread_bits(uint64_t bits, uint8_t value) { V r; TSUBU_EACH r.v[i] = bits >> i & 1 ? value : 0; return r; }
  static TSUBU_INLINE V lookup16(const uint8_t* table, V a) { TSUBU_EACH a.v[i] = table[a.v[i] & 15]; return a; }
  // acc[l] + the products of unsigned bytes 4l … 4l + 3 of u with the signed ones of s (-127 … 127).
  static TSUBU_INLINE I dot4(I acc, V u, V s) {
    for (int l = 0; l < kLanes; ++l)
      for (int j = 4 * l; j < 4 * l + 4; ++j) acc.v[l] += u.v[j] * static_cast<int8_t>(s.v[j]);
    return acc;
  }
  // The same with four signed bytes at p for every lane.
  static TSUBU_INLINE I dot4_all(I acc, V u, const int8_t* p) {
    for (int l = 0; l < kLanes; ++l)
      for (int j = 0; j < 4; ++j) acc.v[l] += u.v[4 * l + j] * p[j];
    return acc;
  }
#undef TSUBU_EACH
#define TSUBU_EACH for (int l = 0; l < kLanes; ++l)
  // Lane l: entry l / 2 of eight bytes.
  static TSUBU_INLINE I pairs(const uint8_t* p) { I r; TSUBU_EACH r.v[l] = p[l / 2]; return r; }
  // Lane l: lane 4c + l / 4 of a.
  template <int c> static TSUBU_INLINE I quarter(I a) { I r; TSUBU_EACH r.v[l] = a.v[4 * c + l / 4]; return r; }
  static TSUBU_INLINE int32_t sum(I a) { int32_t r = 0; TSUBU_EACH r += a.v[l]; return r; }
  static TSUBU_INLINE void half_sums(I a, int32_t* out) {
    out[0] = out[1] = 0;
    TSUBU_EACH out[l / 8] += a.v[l];
  }
  static TSUBU_INLINE float f16(uint16_t bits) { return f16_to_f32(bits); }
#undef TSUBU_EACH
};

}  // namespace tsubu
