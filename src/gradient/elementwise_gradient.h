// Gradients of norms and of operations on single values; rows of one token at a time, f32.
#pragma once

#include <cstddef>

#include "model/graph.h"

namespace tsubu {

// y = x · r · weight, r = (mean x² + eps)^-1/2: gx from gy over n values, and gain += gy · x · r unless it is nullptr.
// weight may be nullptr. gx must not be gy.
void rms_norm_gradient(const float* x, const float* weight, const float* gy, size_t n, float eps, float* gx, float* gain);
// y = (x - mean) · r · weight + bias, r = (variance + eps)^-1/2; shift (of the bias) += gy.
void layer_norm_gradient(const float* x, const float* weight, const float* gy, size_t n, float eps, float* gx, float* gain,
                         float* shift);
// Of engine/elementwise.h's gate and activate, the same kinds.
void gate_gradient(OpKind kind, const float* gate, const float* up, const float* gy, size_t n, float* g_gate, float* g_up);
void activation_gradient(OpKind kind, const float* x, const float* gy, size_t n, float* gx);
// y = cap · tanh(x / cap): gx from y; gx may be gy.
void soft_cap_gradient(float cap, const float* y, const float* gy, size_t n, float* gx);

}  // namespace tsubu
