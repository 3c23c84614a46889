// Quantizes a model to a size or a divergence: plans, rounds, measures on text that was not learned from, corrects the plan
// once where prediction and measurement disagree, and keeps what measured best: a plan, or a stock recipe that fits.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "pipeline/planner.h"

namespace tsubu {

// Windows of a calibration text by what they are for.
struct SplitText {
  Corpus calibration;                        // what `quantize --text` rounds with: the same for any use of the text
  Corpus probes;                             // some of its windows that are learned from
  std::vector<std::vector<TokenId>> held_out;  // behind it where the text is longer, else windows that it only judges with
  bool is_behind = false;                    // the first of these
};
SplitText split_text(const Model& model, const CorpusOptions& options, uint32_t n_probes, uint32_t n_held_out);

struct FitOptions {
  PlanTarget target;
  PlannerOptions planner;
  QuantizeOptions quantize;       // corpus: &split.calibration for calibrated rounding, else nullptr
  bool second_pass = false;       // also where prediction and measurement agree
};

struct FitCandidate {
  std::string name;
  uint64_t size_bytes = 0;
  Prediction predicted;
  double measured = 0;
  Interval measured_ci95;
  double top1 = 1;
  bool is_kept = false;
};

struct FitResult {
  PlanCosts costs;
  Plan plan;                      // the last that was made
  Refinement refinement;          // of the first
  Recipe recipe;                  // of the file that was kept
  std::vector<FitCandidate> candidates;
  QuantizeResult quantized;       // the file that was kept
  bool meets_target = true;       // false: measured above the divergence asked for
  uint64_t n_tokens_scored = 0;
};

FitResult quantize_to_fit(const Model& model, const SplitText& text, const FitOptions& options);
Json to_json(const FitCandidate& candidate);

// Random recipes, really rounded by search and measured on windows: how good predictions are.
struct PlanCheck {
  std::vector<FitCandidate> recipes;
  double spearman = 0, share_covered = 0;
};
PlanCheck check_plan(const Model& model, const PlanCosts& costs, uint32_t n_recipes, uint64_t seed, const Imatrix* stats,
                     std::span<const std::vector<TokenId>> windows, ThreadPool& pool);

}  // namespace tsubu
