// The linears of a model in the order in which calibrated rounding takes them: those that read one input together, those of
// experts by themselves.
#pragma once

#include <cstddef>
#include <vector>

#include "model/model.h"
#include "plan/recipe.h"

namespace tsubu {

struct RoundingGroup {
  size_t first_step = 0, last_step = 0;  // of the graph
  ValueId input = kNoValue;
  bool is_experts = false;  // linears of experts, which read an input of their own or that of dense linears
  struct Linear {
    const Op* op;
    const PlannedTensor* plan;
    ValueId residual = kNoValue;  // what the output is added to
  };
  std::vector<Linear> linears;
};

// The plan must name every linear's weight.
std::vector<RoundingGroup> rounding_groups(const Model& model, const std::vector<PlannedTensor>& plan);

}  // namespace tsubu
