// Codes of a layout's matrices: an empty one of a recipe, and those of a quantized source that are taken over as they are.
#pragma once

#include <optional>

#include "checkpoint/layout.h"
#include "model/model.h"
#include "pipeline/layout_schemes.h"

namespace tsubu {

// Shape and types set, nothing in it.
LayoutMatrix empty_matrix(uint64_t rows, uint64_t cols, const LayoutRecipe& recipe);

// The codes, scales and zeros of a quantized tensor when the recipe's grid holds them as they are; else nullopt. A scale
// that the recipe's type cannot hold keeps a wider one.
std::optional<LayoutMatrix> carried_codes(const ModelTensor& t, const LayoutRecipe& recipe);

}  // namespace tsubu
