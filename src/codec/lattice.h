// A block of the grid formats IQ1, IQ2 and IQ3 as a rounding method sees it (what codec/grid.h is to the others): 256
// weights in sub-blocks under integer scales, groups of 8 that are one or two points of a grid (codec/iq_grids.h),
//   w = (d · unit(scale)) · (sign · level + shift), the shift only in IQ1, the signs only in IQ2 and IQ3.
// Each codec packs and unpacks it; decoding the packed block gives exactly this formula's floats.
#pragma once

#include <cstddef>
#include <cstdint>

#include "codec/codec.h"

namespace tsubu {

inline constexpr int kLatticeBlock = 256;
inline constexpr int kLatticeGroup = 8;
inline constexpr int kLatticeGroups = kLatticeBlock / kLatticeGroup;
inline constexpr int kMaxLatticeSubs = 16;

// A rounded group.
struct LatticeCode {
  uint16_t point[2];  // indices into the grid; the second only where a group is two points
  uint8_t minus;      // bit i: the sign of weight i is minus
};

struct LatticeBlock {
  Half d;
  uint8_t scale[kMaxLatticeSubs];
  LatticeCode code[kLatticeGroups];
  float shift[kLatticeGroups];  // of each group: ±1/8 in IQ1, else 0
};

struct LatticeAccess {
  int n_sub;
  int points_per_group;
  void (*pack)(const LatticeBlock& block, std::byte* bytes);
  void (*unpack)(const std::byte* bytes, LatticeBlock& block);
};

// A codec that has `Lattice` (a LatticeForm), `Scales`, `pack(block)` and `unpack(block, lattice)`.
template <class C>
concept HasLattice = requires(const typename C::Block& block, LatticeBlock& lattice) {
  typename C::Lattice;
  typename C::Scales;
  C::unpack(block, lattice);
};

}  // namespace tsubu
