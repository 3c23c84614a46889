// How much each tensor's perturbation harms: α = KLD per unit of squared relative error, from noise injected into one
// tensor at a time, on the same tokens. By the linearity theorem of Malinovskii et al. 2411.17525 the harms of small
// perturbations of several tensors add up, so α and the errors of real codecs predict what a recipe costs.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "lens/harm.h"
#include "lens/perturbation.h"

namespace tsubu {

struct SensitivityOptions {
  Perturbation probe = parse_perturbation("rows");
  double r = 0.1;            // of the probe: the size of a 3-bit codec's error
  uint32_t n_seeds = 1;
  // Where the harm at r leaves this range it is measured again at another r: below, float noise shows; above, harm no longer
  // grows with the square.
  double least_kld = 2e-6, most_kld = 0.05;
};

struct Sensitivity {
  const ModelTensor* tensor = nullptr;
  double r = 0, kld = 0;     // of the probe, as measured
  double alpha = 0;          // kld / r²
  double spread = 0;         // standard deviation of ln α over chunks and seeds
  double top1 = 1;
};

// f(group): the meter stands where the group's value is live. Called before the group's linears are probed.
using GroupVisitor = std::function<void(const ReadGroup& group, const HarmMeter& meter)>;

// All quantizable matrices that operations use, in graph order; a tied head is one tensor with its embedding. The meter
// goes through the whole graph and is rewound first. done(s): after each. skip: tensors to leave out.
std::vector<Sensitivity> sensitivities(const Model& model, HarmMeter& meter, const SensitivityOptions& options,
                                       ThreadPool& pool, const GroupVisitor& visit = {},
                                       const std::function<void(const Sensitivity&)>& done = {},
                                       const std::function<bool(const ModelTensor&)>& skip = {});

}  // namespace tsubu
