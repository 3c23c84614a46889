// Sixteen rows of one block of a lattice format (codec/lattice.h), transposed so that a column's sixteen values are one
// vector: element i (column, group, point or sub-block) of row l is at [16 i + l]. Work space of the rounding kernels.
#pragma once

#include "codec/lattice.h"
#include "kernel/grid_panel.h"

namespace tsubu {

static_assert(kLatticeBlock == kSpan);

struct alignas(64) LatticePanel {
  float value[kSpan * kPanelRows];  // what the codes stand for, exactly as decoded
  float d[kPanelRows];
  float scale[kMaxLatticeSubs * kPanelRows];  // the integers
  float shift[kLatticeGroups * kPanelRows];
  int32_t point[2 * kLatticeGroups * kPanelRows];  // points in order, one or two a group
  int32_t minus[2 * kLatticeGroups * kPanelRows];  // by point; bit i: the sign of its coordinate i is minus
};

}  // namespace tsubu
