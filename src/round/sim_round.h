// Rounds a matrix to a simulated format: what comes out are the values that the format's decoder would give.
//   start   the plain rule, weighted search, HQQ, the root-domain rule of `power`, or error feedback (GPTQ / LDLQ)
//   refine  coordinate descent on (w - ŵ) H (w - ŵ)ᵀ over codes, scales, zeros that are halves and tables, each
//   accepted
//           on its exact change of the form
// Error feedback: Frantar et al. 2210.17323 in the LDLQ form of Chee et al. 2307.13304, as round/round.h does it for
// the codecs. kGptqPlain takes the plain rule's scales at each group's entry; kGptq takes, at the entry, the scale
// whose own feedback over the group leaves the least of the form (own). Groups of more than kLongestEntry columns,
// tables and doubly quantized scales are fixed beforehand from the weights themselves.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "base/threads.h"
#include "round/curvature.h"
#include "round/sim_format.h"
#include "round/sim_scales.h"

namespace tsubu {

enum class SimStart { kNearest, kSearch, kHqq, kPower, kGptqPlain, kGptq };

struct SimMethod {
  SimStart start = SimStart::kNearest;
  int descent_passes = 0;
  bool needs_curvature() const {
    return start == SimStart::kGptq || start == SimStart::kGptqPlain || descent_passes > 0;
  }
};

inline constexpr size_t kLongestEntry = 256;

// What a file stores of a rounded matrix: a level (as a number, not its index) for each weight, a scale and zero for
// each group of a row, and what the tensor has once.
struct SimStored {
  std::vector<float> levels;     // (n_rows, n_cols)
  std::vector<SimGroup> groups;  // (n_rows, groups of a row); with one scale for the tensor that of the first row counts
  float tensor_scale = 1;        // that E4M3 scales multiply
  std::optional<DoubleQuantized> nested;
};

// Whether the method can make the format; the reason when it cannot, else empty.
std::string_view refusal(const SimFormat& format, const SimMethod& method);

// w, out: (n_rows, n_cols). importance: per column, or empty (ones); curvature: nullptr where the method needs none.
// Throws Error(kUnsupported) with refusal()'s reason, or when a curvature is missing. The result does not depend on the
// number of threads.
// stored: where the codes go, or nullptr (formats with levels only). tensor_absmax: the largest magnitude that the
// tensor's scale has to fit, for tensors that share it; 0: this one's.
void sim_round(const float* w, size_t n_rows, size_t n_cols, const SimFormat& format, const SimMethod& method,
               std::span<const float> importance, const Curvature* curvature, float* out, ThreadPool& pool,
               SimStored* stored = nullptr, float tensor_absmax = 0);

// Σ over rows of r H rᵀ, r = w - values.
double sim_form_error(const float* w, const float* values, size_t n_rows, const Curvature& curvature, ThreadPool& pool);

}  // namespace tsubu
