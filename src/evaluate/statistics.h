// Order statistics and intervals of per-token measurements.
#pragma once

#include <cstdint>
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

// 95 % interval of the mean over tokens, sum / n, from resamples of whole blocks (tokens of one chunk are not independent):
// bootstrap-t, each end at least as far away as Student's t puts it. One block, or blocks that are all alike: the mean
// itself at both ends. Sources: Efron & Tibshirani 1993, chapter 12; what it covers: coverage_test.cc.
Interval mean_interval(std::span<const BlockSums> blocks, uint32_t n_resamples, uint64_t seed, double BlockSums::*sum);

}  // namespace tsubu
