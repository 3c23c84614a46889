// Tests on paired right-or-wrong answers: the same questions put to a base and to a candidate. Shares are in [0, 1].
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "evaluate/evaluate.h"

namespace tsubu {

// How often each of the four outcomes happened.
struct PairedCounts {
  uint64_t both = 0, lost = 0 /* base right, candidate wrong */, gained = 0 /* the other way */, neither = 0;
  void add(bool base_right, bool candidate_right);
  uint64_t n() const { return both + lost + gained + neither; }
  double base_share() const;
  double candidate_share() const;
  double difference() const { return candidate_share() - base_share(); }
  double flips() const;  // share of questions whose outcome changed, either way
};

// Two-sided exact p of McNemar's test: the binomial probability of a split of the flips at least as uneven as this one
// when both directions are equally likely. 1 without flips.
double mcnemar_exact(uint64_t lost, uint64_t gained);

// Score statistic of H0: candidate's share − base's share = difference (Tango, Statistics in Medicine 17, 1998,
// 891–908); standard normal under H0. 0 for no questions.
double tango_score(const PairedCounts& counts, double difference);
// Interval of the difference of shares: the differences that the score test does not reject at 1 − level.
Interval paired_interval(const PairedCounts& counts, double level = 0.95);
// One-sided p of H0: the candidate's share is lower than the base's by `margin` or more. Small: not inferior.
double non_inferiority_p(const PairedCounts& counts, double margin);

// Smallest true difference of shares that a two-sided test at `alpha` finds with probability `power` when the share
// `flips` of n questions changes its outcome: (z_{1−α/2} + z_{power}) √(flips / n) (2605.28873).
double minimum_detectable_effect(uint64_t n, double flips, double alpha = 0.05, double power = 0.8);

// Holm's step-down adjustment of p-values of one family, in the order given; at most 1.
std::vector<double> holm(std::span<const double> p);

double normal_cdf(double z);
double normal_quantile(double p);  // p in (0, 1)

}  // namespace tsubu
