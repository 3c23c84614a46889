// SmoothQuant (Xiao et al., arXiv:2211.10438): s_j = max|X_j|^α / max|W_j|^(1-α) moves the outliers of activations into
// the weights, for formats that round both to 8 bits: a scale for each token of the activations and each row of the
// weights.
#pragma once

#include <cstddef>
#include <optional>

#include "transform/activations.h"
#include "transform/editable_model.h"
#include "transform/report.h"

namespace tsubu {

struct SmoothquantOptions {
  // Empty: searched for each group, 0 to 1 in steps of 1/n_grid, by the error of the outputs with both sides rounded to
  // INT8 (per token, per row) on sampled tokens and rows; needs text.
  std::optional<double> alpha;
  int n_grid = 20;
  size_t max_samples = 512, max_rows = 512;
};

// In a mixture router, experts and shared experts that read one norm share its scales, and down of each expert has its own, as in
// AWQ (awq.h). The report's errors: with a given α the ratio of the largest channel maximum to the median one, else the error of the
// outputs relative to them.
void apply_smoothquant(EditableModel& model, const ActivationSource& source, const SmoothquantOptions& options,
                       ThreadPool& pool, TransformReport& report);

}  // namespace tsubu
