// How two lists of measurements go together.
#pragma once

#include <span>

namespace tsubu {

// Pearson's correlation of two lists of one length; 0 where one of them does not vary.
double correlation(std::span<const double> a, std::span<const double> b);
// Spearman's: that of the ranks, values that are equal having the mean of theirs.
double rank_correlation(std::span<const double> a, std::span<const double> b);

}  // namespace tsubu
