// The eight 6-bit scales and eight 6-bit minimums of Q4_K and Q5_K in 12 bytes. For sub-block j < 4: byte j holds scale
// j in its low six bits, byte 4 + j minimum j; their high two bits hold the top two bits of scale and minimum j + 4,
// whose low four bits are the low and high nibble of byte 8 + j.
#pragma once

#include "codec/lanes.h"

namespace tsubu {

struct KScales {
  uint8_t scale[8];
  uint8_t min[8];
};

TSUBU_INLINE KScales unpack_k_scales(const uint8_t* bytes) {
  KScales s;
  for (int j = 0; j < 4; ++j) {
    s.scale[j] = bytes[j] & 63;
    s.min[j] = bytes[4 + j] & 63;
    s.scale[4 + j] = static_cast<uint8_t>((bytes[8 + j] & 15) | (bytes[j] >> 6) << 4);
    s.min[4 + j] = static_cast<uint8_t>(bytes[8 + j] >> 4 | (bytes[4 + j] >> 6) << 4);
  }
  return s;
}

TSUBU_INLINE void pack_k_scales(const KScales& s, uint8_t* bytes) {
  for (int j = 0; j < 4; ++j) {
    bytes[j] = static_cast<uint8_t>(s.scale[j] | (s.scale[4 + j] >> 4) << 6);
    bytes[4 + j] = static_cast<uint8_t>(s.min[j] | (s.min[4 + j] >> 4) << 6);
    bytes[8 + j] = static_cast<uint8_t>((s.scale[4 + j] & 15) | (s.min[4 + j] & 15) << 4);
  }
}

}  // namespace tsubu
