// Which of two ways to know a model's sensitivities is worth its time: noise probes, one tensor at a time, or gradients of all
// tensors at once. Both predict what single tensors cost in some types; the divergence of each tensor alone in each type is
// measured beside them, on windows that may be of another text.
// Predictions of the divergence that an error Δ of one tensor W adds, with r² = ‖Δ‖² / ‖W‖², H the mean Gram matrix of its
// inputs (damped by 1 % of its mean diagonal) and e = tr(Δ H Δᵀ) / (‖W‖² tr H / n_cols):
//   probe            α r²,  α of noise in the size of each row     probe-output    α e, as plan does
//   fisher           α r²,  α of the Fisher diagonal               fisher-output   α e
//   fisher-diagonal  ½ Σ F_ij Δ_ij²  (HAWQ-V2 1911.03852 in the weights, SqueezeLLM 2306.07629)
//   first-order      Σ |g_ij Δ_ij|, g the gradient of the text's mean loss; no divergence, only an order (SignRoundV2 2512.04746)
// Embeddings that no linear reads have no H: e is r² there.
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "lens/gradient_sensitivity.h"
#include "lens/sensitivity.h"

namespace tsubu {

inline constexpr std::array<std::string_view, 6> kPredictors = {"probe",         "probe-output",    "fisher",
                                                                "fisher-output", "fisher-diagonal", "first-order"};

struct TypePrediction {
  const TypeInfo* type = nullptr;
  double r = 0, e = 0;
  std::array<double, kPredictors.size()> predicted = {};
  std::optional<double> kld;  // measured; none where the time was over
};

struct TensorPrediction {
  std::string name, role;
  int layer = -1;
  double probe_alpha = 0, probe_spread = 0;    // noise in the size of each row
  double fisher_alpha = 0, fisher_spread = 0;  // the same by gradients
  std::vector<TypePrediction> types;           // those whose blocks fit its rows
};

// How well one way predicts what was measured, over tensors and types.
struct Agreement {
  std::string_view predictor;
  size_t n = 0;
  double spearman = 0, pearson = 0;  // of the logarithms, the second
  double within = 0;                 // Spearman among tensors in one type, the mean over types
  double level = 0, scatter = 0;     // exp of the mean of ln(measured / predicted), and its standard deviation
};

struct GradientStudy {
  std::vector<TensorPrediction> tensors;  // sensitive_tensors()
  std::vector<Agreement> agreements;      // kPredictors; empty where less than three costs were measured
  double alpha_spearman = 0, alpha_ratio = 0, alpha_scatter = 0;  // Fisher's α over the probes': geometric mean, deviation of ln
  double probe_seconds = 0, fisher_seconds = 0, gradient_seconds = 0, harm_seconds = 0;
  size_t n_windows = 0, n_held_windows = 0, context = 0;
  size_t n_left_out = 0, n_costs = 0;     // costs that were not measured for want of time; of all
};

struct GradientStudyOptions {
  std::vector<const TypeInfo*> types;  // empty: Q2_K, Q3_K, Q4_K
  SensitivityOptions probe;
  GradientOptions gradient;
  std::function<bool()> is_over;       // the time; empty: never
  Json* work = nullptr;                // an object: what is known already, and what is found
  std::function<void()> save;          // after each addition to it
};

// windows: learned from, by probes and by gradients; held: measured on. Both as for HarmMeter. Throws Error(kUsage) for a type
// that fits no tensor.
GradientStudy study_gradients(const Model& model, std::span<const std::vector<TokenId>> windows,
                              std::span<const std::vector<TokenId>> held, const GradientStudyOptions& options, ThreadPool& pool);
Json to_json(const GradientStudy& study);

}  // namespace tsubu
