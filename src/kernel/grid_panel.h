// Sixteen rows of up to 256 columns on a codec's grid, transposed so that a column's sixteen values are one vector:
// element i (column, sub-block or block) of row l is at [16 i + l]. Work space of the rounding kernels.
#pragma once

#include "codec/grid.h"

namespace tsubu {

inline constexpr int kSpan = 256;  // columns worked on together
inline constexpr int kPanelRows = 16;
inline constexpr int kMaxSpanSubs = 32;  // sub-blocks of a span, and blocks: of 8 weights at least

struct alignas(64) GridPanel {
  const GridSpec* spec;
  int n_cols;                       // a multiple of the block length, at most kSpan
  float value[kSpan * kPanelRows];  // what the codes stand for, exactly as decoded
  float level[kSpan * kPanelRows];
  float scale[kMaxSpanSubs * kPanelRows];  // by sub-block: the integer scale
  float min[kMaxSpanSubs * kPanelRows];    // by sub-block: the integer minimum
  float d[kMaxSpanSubs * kPanelRows];      // by block
  float dmin[kMaxSpanSubs * kPanelRows];
  // Rows that share one form (round/coupled.h): element [16 s + r] is what a change of row s moves g of row r by, as a share
  // of what it moves its own, ones on the diagonal; nullptr: rows are independent. bound: λ with coupling ≤ λ · 1 as forms.
  const float* coupling = nullptr;
  float bound = 1;
};

}  // namespace tsubu
