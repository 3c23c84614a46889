// Activations and gates of one token that are no kernel of their own: put together from kernels, or computed in double.
#pragma once

#include <cstddef>

#include "model/graph.h"

namespace tsubu {

// y = kind(x), kind one of kGelu, kGeluErf, kRelu.
void activate(OpKind kind, const float* x, float* y, size_t n);
// Of kSwigluOai.
inline constexpr float kOaiAlpha = 1.702f, kOaiLimit = 7.0f;

// y = kind(gate) · up, kind one of kSiluMul, kGeluMul, kSwigluOai. y may be neither of them.
void gate(OpKind kind, const float* gate, const float* up, float* y, size_t n);
// Of kSlice: n values of one token's x. Of kConcat: one token's a and b, n_a and n_b values.
void slice(const Op& op, const float* x, float* y, size_t n);
void concat(const Op& op, const float* a, size_t n_a, const float* b, size_t n_b, float* y);
// x becomes cap · tanh(x / cap).
void soft_cap(float cap, float* x, size_t n);

}  // namespace tsubu
