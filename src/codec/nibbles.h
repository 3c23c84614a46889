// Packing of 32 codes of four or five bits, as Q4_0, Q4_1, Q5_0, Q5_1 and IQ4 keep them: byte j holds the low four bits
// of codes j (low nibble) and j + 16 (high nibble); fifth bits are the bits of a little-endian 32-bit word.
#pragma once

#include "codec/lanes.h"

namespace tsubu {

template <class L>
struct Codes32 {
  typename L::I low;   // codes 0 … 15
  typename L::I high;  // codes 16 … 31
};

template <class L>
TSUBU_INLINE Codes32<L> unpack_4bit(const uint8_t* qs) {
  const auto bytes = L::load_u8(qs);
  return {L::bit_and(bytes, L::set1_i(15)), L::template shift_right<4>(bytes)};
}

template <class L>
TSUBU_INLINE Codes32<L> unpack_5bit(const uint8_t* qs, const uint8_t* qh) {
  const Codes32<L> four = unpack_4bit<L>(qs);
  const auto fifth = L::set1_i(16);
  const auto none = L::set1_i(0);
  const uint32_t low_bits = qh[0] | static_cast<uint32_t>(qh[1]) << 8;
  const uint32_t high_bits = qh[2] | static_cast<uint32_t>(qh[3]) << 8;
  return {L::bit_or(four.low, L::select(L::mask_of(low_bits), fifth, none)),
          L::bit_or(four.high, L::select(L::mask_of(high_bits), fifth, none))};
}

template <class L>
TSUBU_INLINE void pack_4bit(Codes32<L> codes, uint8_t* qs) {
  const auto low = L::bit_and(codes.low, L::set1_i(15));
  L::store_u8(qs, L::bit_or(low, L::template shift_left<4>(L::bit_and(codes.high, L::set1_i(15)))));
}

template <class L>
TSUBU_INLINE void pack_5bit(Codes32<L> codes, uint8_t* qs, uint8_t* qh) {
  pack_4bit<L>(codes, qs);
  const auto limit = L::set1(15.5f);
  const uint32_t low_bits = L::mask_bits(L::gt(L::to_float(codes.low), limit));
  const uint32_t high_bits = L::mask_bits(L::gt(L::to_float(codes.high), limit));
  qh[0] = static_cast<uint8_t>(low_bits);
  qh[1] = static_cast<uint8_t>(low_bits >> 8);
  qh[2] = static_cast<uint8_t>(high_bits);
  qh[3] = static_cast<uint8_t>(high_bits >> 8);
}

// The same packing for 32 codes in an array; `fifth` is used with five bits only.
template <int bits>
TSUBU_INLINE void pack_codes(const uint8_t* codes, uint8_t* qs, uint8_t* fifth) {
  for (int j = 0; j < 16; ++j) qs[j] = static_cast<uint8_t>((codes[j] & 15) | (codes[j + 16] & 15) << 4);
  if constexpr (bits == 5)
    for (int b = 0; b < 4; ++b) {
      unsigned byte = 0;
      for (int j = 0; j < 8; ++j) byte |= static_cast<unsigned>(codes[8 * b + j] >> 4) << j;
      fifth[b] = static_cast<uint8_t>(byte);
    }
}

template <int bits>
TSUBU_INLINE void unpack_codes(const uint8_t* qs, const uint8_t* fifth, uint8_t* codes) {
  for (int j = 0; j < 16; ++j) codes[j] = qs[j] & 15, codes[j + 16] = qs[j] >> 4;
  if constexpr (bits == 5)
    for (int j = 0; j < 32; ++j) codes[j] = static_cast<uint8_t>(codes[j] | (fifth[j / 8] >> (j % 8) & 1) << 4);
}

}  // namespace tsubu
