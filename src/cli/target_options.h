// --size, --bpw, --max-kld and what a plan chooses from: the same for plan and quantize.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/command.h"
#include "cli/effort.h"
#include "pipeline/fit.h"

namespace tsubu {

struct TargetChoice {
  std::string size, bits_per_weight;
  double max_kld = 0;
  std::vector<std::string> allow;  // types, also comma-separated
  std::string costs;               // file of measured costs
  std::string sensitivities = "probes";
  bool fused = false;
  std::optional<double> measure;   // minutes
  uint32_t probes = 16, held_out = 32;  // windows
  bool any() const { return !size.empty() || !bits_per_weight.empty() || max_kld > 0; }
};

void declare_target(CLI::App& app, TargetChoice& choice);
// Throws Error(kUsage) on sizes and types that are none.
std::vector<const TypeInfo*> allowed_types(const TargetChoice& choice);
// The target in bytes of the file that quantize would write.
PlanTarget make_target(const TargetChoice& choice, const Model& model, const QuantizeOptions& quantize);

MeasureOptions measure_options(const TargetChoice& choice);

// Tables for people: what was chosen and why.
std::string plan_text(const PlanCosts& costs, const Plan& plan, const std::vector<Plan>& front, const PlannerOptions& options);
std::string refinement_text(const Refinement& refinement, const PlanCosts& costs);
std::string front_text(const std::vector<Plan>& front, const PlanCosts& costs);
std::string candidates_text(const std::vector<FitCandidate>& candidates);

}  // namespace tsubu
