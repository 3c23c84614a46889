// The perturbation study of one model: what noise of which kind, size and place does to its outputs, and how the errors of
// real codecs compare. A list of cells (one perturbation of one set of places, measured on fixed text), in order of
// importance, run until the time is over; finished cells are kept in a work file, and the same study goes on from there.
// Source of the questions: Gong et al. 2403.06408; the figures: own.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/remark.h"
#include "lens/gradient_study.h"
#include "lens/sensitivity.h"
#include "page/words.h"

namespace tsubu {

struct StudyOptions {
  double minutes = 10;
  uint32_t n_seeds = 3;
  std::string where = "^blk\\.";  // weights (and inputs of weights) to perturb: regular expression, searched in the name
  std::string work_path;          // of the finished cells; empty: none are kept
  std::string text_hash;          // what the cells depend on besides the model
  bool gradients = false;         // sensitivities by gradients too, and what single tensors really cost in `types`
  std::vector<const TypeInfo*> types;             // as in GradientStudyOptions
  std::span<const std::vector<TokenId>> held;     // windows that these costs are measured on; empty: the study's
  bool each_token = true;         // activations: r, largest value and quantile of each token, else of each window
};

// What one cell perturbs.
struct Cell {
  enum class What { kWeights, kActivations, kBoth, kNumerics };
  What what = What::kWeights;
  Perturbation perturbation;
  std::string weights, activations;  // schemes, for kNumerics; empty: float
  std::string role;                  // of the weights; empty: all that `where` matches
  std::string part;                  // of the study: "curves", "gamma", "clipping", "codecs", "activations by role" …
  std::string id() const;            // unique: "activations M+ r=0.0625 seed=2 role=ffn_down"
};

struct CellResult {
  double r = 0;  // relative L2 of all the weights changed; the one asked for, for activations
  double kld = 0, kld_low = 0, kld_high = 0, ln_ppl_ratio = 0, top1 = 1;
};

// A codec's errors by the size of the weight: rms(Δ) ∝ |x|^slope, over sampled rows, each tensor in units of its rms.
struct ErrorSlope {
  std::string codec;
  double slope = 0;
  std::vector<double> magnitudes, errors;  // bin centers |x| / rms(x); rms(Δ) there / rms(Δ)
};

struct OutlierChannel {
  std::string weight;    // whose input it is
  uint32_t channel = 0;
  double peak = 0;       // largest |x| over the input's root mean square
  double share = 0;      // of the input's energy
};

struct Study {
  std::string model;
  uint64_t n_tokens_scored = 0;
  size_t context = 0, n_windows = 0;
  double mean_nll = 0, seconds = 0;
  std::vector<std::pair<Cell, CellResult>> cells;
  std::vector<Sensitivity> sensitivities;      // without tensors
  std::vector<std::string> sensitivity_names, sensitivity_roles;
  std::vector<int> sensitivity_layers;
  std::vector<ErrorSlope> slopes;
  std::vector<OutlierChannel> outliers;
  std::optional<GradientStudy> gradients;
  std::vector<std::string> left_out;           // what the time did not suffice for, by part
  size_t n_resumed = 0, n_cells = 0;           // taken from the work file; of the whole study
};

// Throws Error(kUsage) when `where` matches nothing or is no regular expression.
Study run_study(const Model& model, std::span<const std::vector<TokenId>> windows, const StudyOptions& options,
                ThreadPool& pool);

// Derived from the cells. Means over seeds; low and high are the range over them.
struct CurvePoint {
  double x = 0, y = 0, low = 0, high = 0;
  size_t n = 0;
};
// Cells of a part, a place and a kind, by r, gamma or the share clipped (x); y: of f.
std::vector<CurvePoint> curve(const Study& study, const std::string& part, Cell::What what, const std::string& kind,
                              const std::string& role = "", double CellResult::*y = &CellResult::kld);
// The r of Gaussian noise in the weights that does this harm; none without a curve or far beyond its end.
std::optional<double> equivalent_noise(const Study& study, double kld);

// Sentences with their numbers, the most telling first.
std::vector<Remark> findings(const Study& study);
Json to_json(const Study& study);
// One self-contained page: figures, light and dark, a table behind each; in the words' language.
std::string study_page(const Study& study, const Words& words);

}  // namespace tsubu
