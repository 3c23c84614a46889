// The point sets ("grids") of the IQ1, IQ2 and IQ3 formats, and the signs that go with them.
//
// A set is a choice of points of a small lattice box: 8 coordinates of 3 levels or 4 coordinates of 8 levels. A block
// stores the index of a point; points are numbered in ascending order of their code, the base-3 (base-8) number whose
// i-th digit, least significant first, is the level of coordinate i. So a set is kept as a bitmap over codes
// (iq_grids.inc), and expanded while compiling into the tables below, where byte i of an entry is coordinate i.
//
// | set     | points | coordinates | levels                        |
// |---------|--------|-------------|-------------------------------|
// | IQ1_S   |   2048 |           8 | -1, 0, 1                      |
// | IQ2_XXS |    256 |           8 | 8, 25, 43                     |
// | IQ2_XS  |    512 |           8 | 8, 25, 43                     |
// | IQ2_S   |   1024 |           8 | 8, 25, 43                     |
// | IQ3_XXS |    256 |           4 | 4, 12, 20, 28, 36, 44, 52, 62 |
// | IQ3_S   |    512 |           4 | 1, 3, 5, 7, 9, 11, 13, 15     |
// IQ1_M shares IQ1_S's set.
// Source: ggml's type definitions as published in the `gguf` package, which the tests compare with.
#pragma once

#include <cstdint>

#include "codec/bytes.h"

namespace tsubu {

template <class Entry, int n_points>
struct Grid {
  Entry points[n_points];
};

// A set arranged for searches (codec/lattice_grid.h). A point's code splits into that of the first half of its coordinates
// (the low digits) and that of the second; points are in ascending order, so those with the same second half stand
// together.
template <int dims, int n_levels, int n_points>
struct GridIndex {
  static constexpr int kDims = dims;
  static constexpr int kLevels = n_levels;
  static constexpr int kPoints = n_points;
  static constexpr int kHalfCodes = dims == 8 ? n_levels * n_levels * n_levels * n_levels : n_levels * n_levels;

  float level[n_levels];
  uint16_t start[kHalfCodes + 1];  // points start[h] … start[h + 1] - 1 have the second half h
  uint8_t first[n_points];         // the first half of each point
};

extern const Grid<uint64_t, 2048> kIq1sGrid;
extern const Grid<uint64_t, 256> kIq2xxsGrid;
extern const Grid<uint64_t, 512> kIq2xsGrid;
extern const Grid<uint64_t, 1024> kIq2sGrid;
extern const Grid<uint32_t, 256> kIq3xxsGrid;
extern const Grid<uint32_t, 512> kIq3sGrid;

extern const GridIndex<8, 3, 2048> kIq1sIndex;
extern const GridIndex<8, 3, 256> kIq2xxsIndex;
extern const GridIndex<8, 3, 512> kIq2xsIndex;
extern const GridIndex<8, 3, 1024> kIq2sIndex;
extern const GridIndex<4, 8, 256> kIq3xxsIndex;
extern const GridIndex<4, 8, 512> kIq3sIndex;

// Seven stored signs; the eighth makes the number of minus signs even.
TSUBU_INLINE uint32_t even_signs(uint32_t seven_bits) {
  uint32_t parity = seven_bits ^ (seven_bits >> 4);
  parity ^= parity >> 2;
  parity ^= parity >> 1;
  return seven_bits | (parity & 1) << 7;
}

// Two points of four coordinates as one of eight.
TSUBU_INLINE uint64_t joined(uint32_t first4, uint32_t last4) { return first4 | static_cast<uint64_t>(last4) << 32; }

}  // namespace tsubu
