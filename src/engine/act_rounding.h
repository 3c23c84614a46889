// Which rounding the input of a linear gets on llama.cpp's CPU path, by the type of its weights. The only place that
// knows this mapping.
#pragma once

#include <cstddef>

#include "codec/type_info.h"

namespace tsubu {

enum class ActRounding { kNone, kF16, kBf16, kQ8_0, kQ8_K };

ActRounding act_rounding_of(const TypeInfo& weight_type);
// One row of n activations (a multiple of the weights' block), through the kernels in use.
void round_activations(ActRounding rounding, const float* x, float* y, size_t n);

}  // namespace tsubu
