// A block as a rounding method sees it: codes on a grid of levels under scales and minimums,
//   w = (d · scale[s]) · level[code] - dmin · min[s]        for every weight of sub-block s.
// Methods that move codes and scales (error feedback, coordinate descent) work on this form of any codec; the codec
// packs and unpacks it. Decoding the packed block gives exactly this formula's floats, each operation rounded once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "codec/codec.h"
#include "codec/iq4.h"

namespace tsubu {

inline constexpr int kMaxGridBlock = 256;
inline constexpr int kMaxGridSubs = 16;

struct GridSpec {
  int block_len, n_sub, sub_len;
  int scale_low, scale_high;  // of the integer scales; equal: there are none, the value is that one
  int min_low, min_high;      // of the integer minimums; equal: that one (0: the format has no minimum)
  const float* levels;        // ascending; code c stands for levels[c]
  int n_levels;
  bool even;  // levels are consecutive integers

  constexpr bool has_scales() const { return scale_low != scale_high; }
  constexpr bool has_mins() const { return min_low != min_high; }
  constexpr bool has_offset() const { return min_low != 0 || min_high != 0; }
};

struct GridBlock {
  Half d, dmin;
  int16_t scale[kMaxGridSubs];
  int16_t min[kMaxGridSubs];
  uint8_t codes[kMaxGridBlock];
};

struct GridAccess {
  GridSpec spec;
  void (*pack)(const GridBlock& block, std::byte* bytes);
  void (*unpack)(const std::byte* bytes, GridBlock& block);
};

// Levels low … high.
template <int low, int high>
struct IntegerLevels {
  float v[high - low + 1];
  constexpr IntegerLevels() : v() {
    for (int i = low; i <= high; ++i) v[i - low] = static_cast<float>(i);
  }
  static const IntegerLevels kTable;
};
template <int low, int high>
inline constexpr IntegerLevels<low, high> IntegerLevels<low, high>::kTable{};

struct GridScales {
  int low = 1, high = 1;
};
struct GridMins {
  int low = 0, high = 0;
};

template <int low, int high>
constexpr GridSpec integer_grid(int block_len, int n_sub, GridScales scales = {}, GridMins mins = {}) {
  return {block_len,      n_sub,    block_len / n_sub, scales.low,
          scales.high,    mins.low, mins.high,         IntegerLevels<low, high>::kTable.v,
          high - low + 1, true};
}
constexpr GridSpec iq4_grid(int block_len, int n_sub, GridScales scales = {}) {
  return {block_len, n_sub, block_len / n_sub, scales.low, scales.high, 0, 0, kIq4Levels, 16, false};
}

// GridAccess of a codec that has `kGridSpec`, `pack(block)` and `unpack(block, grid)`.
template <class C>
constexpr GridAccess grid_access() {
  return {C::kGridSpec,
          [](const GridBlock& grid, std::byte* bytes) { *reinterpret_cast<typename C::Block*>(bytes) = C::pack(grid); },
          [](const std::byte* bytes, GridBlock& grid) {
            C::unpack(*reinterpret_cast<const typename C::Block*>(bytes), grid);
          }};
}

template <class C>
concept HasGrid = requires {
  C::kGridSpec;
};

}  // namespace tsubu
