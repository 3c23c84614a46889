#include "engine/elementwise.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "kernel/kernels.h"

namespace tsubu {

void activate(OpKind kind, const float* x, float* y, size_t n) {
  if (kind == OpKind::kGelu) return kernels().gelu(x, y, n);
  for (size_t i = 0; i < n; ++i) {
    if (kind == OpKind::kRelu) {
      y[i] = x[i] < 0 ? 0.0f : x[i];  // keeps NaN
    } else {
      const auto v = static_cast<double>(x[i]);
      y[i] = static_cast<float>(0.5 * v * (1 + std::erf(v / std::numbers::sqrt2)));
    }
  }
}

void gate(OpKind kind, const float* gate, const float* up, float* y, size_t n) {
  if (kind == OpKind::kSiluMul) return kernels().silu_mul(gate, up, y, n);
  if (kind == OpKind::kGeluMul) {
    kernels().gelu(gate, y, n);
    for (size_t i = 0; i < n; ++i) y[i] *= up[i];
    return;
  }
  // g · sigmoid(a g) · (u + 1) = silu(a g) · (u + 1) / a.
  std::array<float, 256> g, u;
  for (size_t begin = 0; begin < n; begin += g.size()) {
    const size_t count = std::min(g.size(), n - begin);
    for (size_t i = 0; i < count; ++i) {
      g[i] = kOaiAlpha * std::min(gate[begin + i], kOaiLimit);
      u[i] = (std::clamp(up[begin + i], -kOaiLimit, kOaiLimit) + 1) / kOaiAlpha;
    }
    kernels().silu_mul(g.data(), u.data(), y + begin, count);
  }
}

void slice(const Op& op, const float* x, float* y, size_t n) {
  const size_t n_heads = op.head_dim > 0 ? op.n_heads : 1, step = op.head_dim, width = n / n_heads;
  for (size_t h = 0; h < n_heads; ++h) std::copy_n(x + h * step + op.offset, width, y + h * width);
}

void concat(const Op& op, const float* a, size_t n_a, const float* b, size_t n_b, float* y) {
  const size_t wide = n_a / op.n_heads, more = n_b / op.n_heads;
  for (size_t h = 0; h < op.n_heads; ++h) {
    y = std::copy_n(a + h * wide, wide, y);
    y = std::copy_n(b + h * more, more, y);
  }
}

void soft_cap(float cap, float* x, size_t n) {
  const auto c = static_cast<double>(cap);
  for (size_t i = 0; i < n; ++i) x[i] = static_cast<float>(c * std::tanh(static_cast<double>(x[i]) / c));
}

}  // namespace tsubu
