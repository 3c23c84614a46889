// Root-mean-square and layer normalization of one vector.
#include "kernel/generic/vector_math.h"
#include "kernel/kernels.h"

namespace tsubu::TSUBU_ISA {

void fill_norm_kernels(Kernels& k);

namespace {

// 1 / sqrt(sum / n + eps), correctly rounded step by step.
TSUBU_INLINE F inverse_root(float sum, size_t n, float eps) {
  return Lanes::set1(1.0f / first_lane(Lanes::sqrt(Lanes::set1(sum / static_cast<float>(n) + eps))));
}

void rms_norm(const float* x, const float* weight, float* y, size_t n, float eps) {
  const F squares = fold(
      x, n, Lanes::zero(), 0.0f, [](F acc, F v) __attribute__((always_inline)) { return Lanes::fma(v, v, acc); });
  const F scale = inverse_root(Lanes::hsum(squares), n, eps);
  if (!weight) {
    map(
        x, y, n, [scale](F v) __attribute__((always_inline)) { return Lanes::mul(v, scale); });
    return;
  }
  map2(
      x, weight, y,
      n, [scale](F v, F w) __attribute__((always_inline)) { return Lanes::mul(Lanes::mul(v, scale), w); });
}

void layer_norm(const float* x, const float* weight, const float* bias, float* y, size_t n, float eps) {
  const F total = fold(
      x, n, Lanes::zero(), 0.0f, [](F acc, F v) __attribute__((always_inline)) { return Lanes::add(acc, v); });
  const float mean_value = Lanes::hsum(total) / static_cast<float>(n);
  const F mean = Lanes::set1(mean_value);
  const F squares = fold(
      x, n, Lanes::zero(), mean_value, [mean](F acc, F v) __attribute__((always_inline)) {
        const F d = Lanes::sub(v, mean);
        return Lanes::fma(d, d, acc);
      });
  const F scale = inverse_root(Lanes::hsum(squares), n, eps);
  map(
      x, y, n, [ mean, scale ](F v) __attribute__((always_inline)) { return Lanes::mul(Lanes::sub(v, mean), scale); });
  if (weight)
    map2(
        y, weight, y, n, [](F v, F w) __attribute__((always_inline)) { return Lanes::mul(v, w); });
  if (bias)
    map2(
        y, bias, y, n, [](F v, F b) __attribute__((always_inline)) { return Lanes::add(v, b); });
}

}  // namespace

void fill_norm_kernels(Kernels& k) {
  k.rms_norm = rms_norm;
  k.layer_norm = layer_norm;
}

}  // namespace tsubu::TSUBU_ISA
