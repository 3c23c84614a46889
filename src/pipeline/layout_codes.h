// Codes of a layout's matrices: an empty one of a recipe, and those of a quantized source that are taken over as they are.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/threads.h"
#include "checkpoint/layout.h"
#include "model/model.h"
#include "pipeline/layout_schemes.h"
#include "round/sim_round.h"

namespace tsubu {

// Shape and types set, nothing in it.
LayoutMatrix empty_matrix(uint64_t rows, uint64_t cols, const LayoutRecipe& recipe);

// The codes, scales and zeros of a quantized tensor when the recipe's grid holds them as they are; else nullopt. A scale
// that the recipe's type cannot hold keeps a wider one.
std::optional<LayoutMatrix> carried_codes(const ModelTensor& t, const LayoutRecipe& recipe);

// "gptq+refine", as reports and manifests have it.
std::string method_words(const SimMethod& method);

// ‖written − w‖ / ‖w‖ over rows of w, which has the matrix' shape.
double relative_error(const std::vector<float>& w, const QuantMatrix& written, ThreadPool& pool);

}  // namespace tsubu
