// Predicted costs and measured ones brought together. Of a choice i of class c (a tensor in a type)
//   ln cost = ln predicted + m + u_c + v_ci,  u ~ N(0, s_u²), v ~ N(0, s_v²)
// m: what predictions of this model are off by on the whole; u: what they are off by for one class (its sensitivity), v: for one
// choice of it (the error of the type there). Measured windows say ln measured - ln predicted, with a noise that choices of one
// class share (how hard the windows are on that class) and one of their own; both come from the windows themselves, paired: the
// influence of window w on ln of a mean is x_w / Σx, and the variance of a difference of two such means over W windows is
// W / (W - 1) Σ (influence - influence)². s_u and s_v are what is left of the scatter (DerSimonian and Laird's moments). A
// choice that was not measured follows the others of its class, a class without any follows m. Own.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace tsubu {

struct CostEvidence {
  size_t cls = 0;
  double predicted = 0;         // > 0 for a choice that costs anything
  std::vector<double> windows;  // measured, a mean for each window; empty: not measured
};

struct CostEstimate {
  double cost = 0;
  double spread = 0;  // standard deviation of its ln
};

struct CostModel {
  double level = 0;                   // m
  double between = 0, within = 0;     // s_u, s_v
};

// As long as `evidence`. Choices that are predicted to cost nothing cost nothing. prior: spreads where too little was measured
// to know them. model: what was found, may be nullptr.
std::vector<CostEstimate> combine_costs(std::span<const CostEvidence> evidence, const CostModel& prior,
                                        CostModel* model = nullptr);

}  // namespace tsubu
