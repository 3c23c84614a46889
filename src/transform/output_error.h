// The error that rounding leaves in a linear's output: for rows w of the weight and what they become, ŵ,
// E‖(ŵ - w)·x‖² = Σ_rows (ŵ - w) G (ŵ - w)ᵀ with G = E x xᵀ.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/threads.h"
#include "codec/type_info.h"
#include "model/model.h"
#include "transform/activations.h"

namespace tsubu {

// Rows of a weight that stand for all of them: at most so many, evenly spread. (n, n_cols) floats.
struct SampledRows {
  std::vector<float> values;
  size_t n_rows = 0, n_cols = 0;
  double share = 1;  // of the matrix
};
SampledRows sample_rows(const ModelTensor& tensor, size_t at_most);

// Rounds rows of a matrix, (n_rows, n_cols), to the values that a decoder would give. importance: by column, or empty.
using RowRounding = std::function<void(const float* rows, size_t n_rows, size_t n_cols, std::span<const float> importance,
                                       float* out, ThreadPool& pool)>;

// How rounding happens: the type's own search, with or without the weights of an importance matrix; of a format that is no
// type, a function.
struct RoundingTarget {
  const TypeInfo* type = nullptr;
  bool importance = true;
  RowRounding round = {};  // instead of the type's
};

// The error of all rows, estimated from the sampled ones, when columns are scaled by `scales` before rounding and back
// after it. The sum's order is fixed.
double scaled_rounding_error(const SampledRows& rows, const RoundingTarget& target, const Activations& activations,
                             std::span<const double> scales, ThreadPool& pool);
// Σ w G wᵀ: the output's own size.
double output_square(const SampledRows& rows, const Activations& activations, ThreadPool& pool);

}  // namespace tsubu
