#include "gradient/elementwise_gradient.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "engine/elementwise.h"
#include "kernel/kernels.h"

namespace tsubu {
namespace {

constexpr size_t kPiece = 256;  // values at a time, on the stack

// The sigmoid that the kernels use, from x · sigmoid(x) as they give it: the exponential stays theirs.
float sigmoid_of(float x, float product) { return std::fabs(x) > 1e-20f ? product / x : 0.5f; }

}  // namespace

void rms_norm_gradient(const float* x, const float* weight, const float* gy, size_t n, float eps, float* gx, float* gain) {
  for (size_t i = 0; i < n; ++i) gx[i] = weight ? gy[i] * weight[i] : gy[i];
  const auto count = static_cast<float>(n);
  const float r = 1.0f / std::sqrt(kernels().dot(x, x, n) / count + eps);
  const float along = r * r * kernels().dot(gx, x, n) / count;
  for (size_t i = 0; i < n; ++i) gx[i] = r * (gx[i] - along * x[i]);
  if (gain)
    for (size_t i = 0; i < n; ++i) gain[i] += gy[i] * x[i] * r;
}

void layer_norm_gradient(const float* x, const float* weight, const float* gy, size_t n, float eps, float* gx, float* gain,
                         float* shift) {
  const auto count = static_cast<double>(n);
  double sum = 0, squares = 0, g_sum = 0, g_along = 0;
  for (size_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]);
  const double mean = sum / count;
  for (size_t i = 0; i < n; ++i) squares += (static_cast<double>(x[i]) - mean) * (static_cast<double>(x[i]) - mean);
  const double r = 1 / std::sqrt(squares / count + static_cast<double>(eps));
  for (size_t i = 0; i < n; ++i) {
    gx[i] = weight ? gy[i] * weight[i] : gy[i];
    g_sum += static_cast<double>(gx[i]);
    g_along += static_cast<double>(gx[i]) * (static_cast<double>(x[i]) - mean) * r;
  }
  const auto middle = static_cast<float>(mean), scale = static_cast<float>(r);
  const auto g_mean = static_cast<float>(g_sum / count), along = static_cast<float>(g_along / count);
  for (size_t i = 0; i < n; ++i) {
    const float normal = (x[i] - middle) * scale;
    gx[i] = scale * (gx[i] - g_mean - along * normal);
    if (gain) gain[i] += gy[i] * normal;
    if (shift) shift[i] += gy[i];
  }
}

namespace {

// y = gate · sigmoid(gate) · up.
void silu_mul_gradient(const float* gate, const float* up, const float* gy, size_t n, float* g_gate, float* g_up) {
  float ones[kPiece], silu[kPiece];
  std::fill(ones, ones + kPiece, 1.0f);
  for (size_t begin = 0; begin < n; begin += kPiece) {
    const size_t count = std::min(kPiece, n - begin);
    kernels().silu_mul(gate + begin, ones, silu, count);
    for (size_t i = 0; i < count; ++i) {
      const size_t at = begin + i;
      const float sigmoid = sigmoid_of(gate[at], silu[i]), g = gy[at];
      g_gate[at] = g * up[at] * (sigmoid + silu[i] * (1.0f - sigmoid));
      g_up[at] = g * silu[i];
    }
  }
}

// gelu and its derivative at up to kPiece values: y = x · sigmoid(2u), u = √(2/π)·(x + 0.044715 x³).
void gelu_with_slope(const float* x, size_t n, float* gelu, float* slope) {
  constexpr float kTwice = 1.5957691216057308f, kCubic = 0.044715f;
  kernels().gelu(x, gelu, n);
  for (size_t i = 0; i < n; ++i) {
    const float sigmoid = sigmoid_of(x[i], gelu[i]);
    slope[i] = sigmoid + gelu[i] * (1.0f - sigmoid) * kTwice * (1.0f + 3 * kCubic * x[i] * x[i]);
  }
}

void gelu_mul_gradient(const float* gate, const float* up, const float* gy, size_t n, float* g_gate, float* g_up) {
  float gelu[kPiece], slope[kPiece];
  for (size_t begin = 0; begin < n; begin += kPiece) {
    const size_t count = std::min(kPiece, n - begin);
    gelu_with_slope(gate + begin, count, gelu, slope);
    for (size_t i = 0; i < count; ++i) {
      g_gate[begin + i] = gy[begin + i] * up[begin + i] * slope[i];
      g_up[begin + i] = gy[begin + i] * gelu[i];
    }
  }
}

// y = silu(a min(gate, l)) · (clamp(up, ±l) + 1) / a; beyond the limits l nothing moves.
void swiglu_oai_gradient(const float* gate, const float* up, const float* gy, size_t n, float* g_gate, float* g_up) {
  float g[kPiece], u[kPiece];
  for (size_t begin = 0; begin < n; begin += kPiece) {
    const size_t count = std::min(kPiece, n - begin);
    for (size_t i = 0; i < count; ++i) {
      g[i] = kOaiAlpha * std::min(gate[begin + i], kOaiLimit);
      u[i] = (std::clamp(up[begin + i], -kOaiLimit, kOaiLimit) + 1) / kOaiAlpha;
    }
    silu_mul_gradient(g, u, gy + begin, count, g_gate + begin, g_up + begin);
    for (size_t i = 0; i < count; ++i) {
      g_gate[begin + i] *= gate[begin + i] < kOaiLimit ? kOaiAlpha : 0.0f;
      g_up[begin + i] *= std::fabs(up[begin + i]) < kOaiLimit ? 1 / kOaiAlpha : 0.0f;
    }
  }
}

}  // namespace

void gate_gradient(OpKind kind, const float* gate, const float* up, const float* gy, size_t n, float* g_gate, float* g_up) {
  if (kind == OpKind::kSiluMul) return silu_mul_gradient(gate, up, gy, n, g_gate, g_up);
  if (kind == OpKind::kGeluMul) return gelu_mul_gradient(gate, up, gy, n, g_gate, g_up);
  swiglu_oai_gradient(gate, up, gy, n, g_gate, g_up);
}

void activation_gradient(OpKind kind, const float* x, const float* gy, size_t n, float* gx) {
  if (kind == OpKind::kGelu) {
    float gelu[kPiece], slope[kPiece];
    for (size_t begin = 0; begin < n; begin += kPiece) {
      const size_t count = std::min(kPiece, n - begin);
      gelu_with_slope(x + begin, count, gelu, slope);
      for (size_t i = 0; i < count; ++i) gx[begin + i] = gy[begin + i] * slope[i];
    }
    return;
  }
  for (size_t i = 0; i < n; ++i) {
    if (kind == OpKind::kRelu) {
      gx[i] = x[i] > 0 ? gy[i] : 0.0f;
    } else {  // Φ(x) + x φ(x)
      const auto v = static_cast<double>(x[i]);
      const double share = 0.5 * (1 + std::erf(v / std::numbers::sqrt2));
      const double density = std::exp(-v * v / 2) * std::numbers::inv_sqrtpi / std::numbers::sqrt2;
      gx[i] = static_cast<float>(static_cast<double>(gy[i]) * (share + v * density));
    }
  }
}

void soft_cap_gradient(float cap, const float* y, const float* gy, size_t n, float* gx) {
  for (size_t i = 0; i < n; ++i) gx[i] = gy[i] * (1.0f - y[i] / cap * (y[i] / cap));
}

}  // namespace tsubu
