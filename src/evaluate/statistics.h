// Order statistics and intervals of per-token measurements.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "evaluate/evaluate.h"

namespace tsubu {

// The q-quantile, q in [0, 1], of sorted values, linear between neighbours. 0 for none.
double quantile(std::span<const float> sorted, double q);

// One resampling unit (a chunk of text): sums over its tokens, of which a statistic is a function.
struct BlockSums {
  double n = 0, kld = 0, top1 = 0, nll_difference = 0;
};

// 95 % percentile interval of statistic(sums) over resamples of whole blocks: tokens of one chunk are not independent.
Interval block_bootstrap(std::span<const BlockSums> blocks, uint32_t n_resamples, uint64_t seed,
                         const std::function<double(const BlockSums&)>& statistic);

}  // namespace tsubu
