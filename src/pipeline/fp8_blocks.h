// FP8 weights with one scale for each block of 128 x 128 (DeepSeek-V3's layout), rounded to nearest.
#pragma once

#include <vector>

#include "base/threads.h"
#include "checkpoint/layout.h"

namespace tsubu {

// w: (q.n_rows, q.n_cols). Sets the codes (E4M3), scales and grouping of q, whose shape and scale type are given. A scale is
// the block's largest magnitude over E4M3's, in the scale's type; blocks of zeros have 1.
void round_fp8_blocks(const std::vector<float>& w, LayoutMatrix& q, ThreadPool& pool);

}  // namespace tsubu
