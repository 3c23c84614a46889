// Little-endian integers and floats at any byte address, and small bit spreads, for codecs.
#pragma once

#include <cstdint>

#include "codec/codec.h"

namespace tsubu {

TSUBU_INLINE uint32_t read_u16(const uint8_t* p) { return p[0] | static_cast<uint32_t>(p[1]) << 8; }
TSUBU_INLINE uint32_t read_u32(const uint8_t* p) { return read_u16(p) | read_u16(p + 2) << 16; }
TSUBU_INLINE uint64_t read_u64(const uint8_t* p) { return read_u32(p) | static_cast<uint64_t>(read_u32(p + 4)) << 32; }
TSUBU_INLINE float read_f32(const uint8_t* p) { return __builtin_bit_cast(float, read_u32(p)); }

TSUBU_INLINE void write_u16(uint8_t* p, uint32_t v) {
  p[0] = static_cast<uint8_t>(v);
  p[1] = static_cast<uint8_t>(v >> 8);
}
TSUBU_INLINE void write_u32(uint8_t* p, uint32_t v) {
  write_u16(p, v);
  write_u16(p + 2, v >> 16);
}

// Nibble i of a row of nibbles, low nibble first.
TSUBU_INLINE uint32_t nibble(const uint8_t* p, int i) { return p[i / 2] >> (4 * (i % 2)) & 15u; }

// Two-bit field i of sixteen bits to byte i.
TSUBU_INLINE uint64_t spread_crumbs(uint32_t sixteen_bits) {
  uint64_t x = sixteen_bits & 0xffffu;
  x = (x | x << 24) & 0x000000ff000000ffu;
  x = (x | x << 12) & 0x000f000f000f000fu;
  return (x | x << 6) & 0x0303030303030303u;
}

// Negates byte i of magnitudes (each 1 … 127) where bit i of signs is set.
TSUBU_INLINE uint64_t with_signs(uint64_t magnitudes, uint32_t signs) {
  constexpr uint64_t kOnes = 0x0101010101010101u;
  const uint64_t own_bit = (signs & 0xffu) * kOnes & 0x8040201008040201u;  // byte i keeps only bit i
  const uint64_t negative = ((own_bit + 0x7f * kOnes) >> 7) & kOnes;        // 1 in each byte to negate
  return (magnitudes ^ (negative * 0xff)) + negative;                       // two's complement; no byte carries
}

// Sixteen signed bytes, lowest byte of `first8` first, as lanes.
template <class L>
TSUBU_INLINE typename L::I lanes_of(uint64_t first8, uint64_t last8) {
  // One 16-byte store: a 16-byte load cannot be forwarded from two halves.
  using Pair = uint64_t __attribute__((vector_size(16)));
  const Pair pair = {first8, last8};
  int8_t bytes[16];
  __builtin_memcpy(bytes, &pair, 16);
  return L::load_i8(bytes);
}

}  // namespace tsubu
