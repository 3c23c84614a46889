// Element by element operations, softmax and log-sum-exp.
#include "kernel/generic/vector_math.h"
#include "kernel/kernels.h"

namespace tsubu::TSUBU_ISA {

void fill_elementwise_kernels(Kernels& k);

namespace {

constexpr float kMinusInfinity = -__builtin_inff();

void add(const float* a, const float* b, float* y, size_t n) {
  map2(
      a, b, y, n, [](F u, F v) __attribute__((always_inline)) { return Lanes::add(u, v); });
}

void axpy(float a, const float* x, float* y, size_t n) {
  const F factor = Lanes::set1(a);
  map2(
      x, y, y, n, [factor](F u, F v) __attribute__((always_inline)) { return Lanes::add(v, Lanes::mul(factor, u)); });
}

// 1 / (1 + e^-x) times y; an exponential that overflows gives the limit, 0.
TSUBU_INLINE F times_sigmoid(F y, F x) { return Lanes::div(y, Lanes::add(Lanes::set1(1.0f), exp(Lanes::neg(x)))); }

void silu_mul(const float* gate, const float* up, float* y, size_t n) {
  map2(
      gate, up, y, n, [](F g, F u) __attribute__((always_inline)) { return Lanes::mul(times_sigmoid(g, g), u); });
}

// x/2 · (1 + tanh(u)) = x · sigmoid(2u), u = √(2/π)·(x + 0.044715 x³).
void gelu(const float* x, float* y, size_t n) {
  map(
      x, y, n, [](F v) __attribute__((always_inline)) {
        const F cubic = Lanes::fma(Lanes::mul(v, v), Lanes::mul(v, Lanes::set1(0.044715f)), v);
        return times_sigmoid(v, Lanes::mul(Lanes::set1(1.5957691216057308f), cubic));
      });
}

TSUBU_INLINE float max_of(const float* x, size_t n) {
  const F lanes = fold(
      x, n, Lanes::set1(kMinusInfinity), kMinusInfinity,
      [](F acc, F v) __attribute__((always_inline)) { return Lanes::max(acc, v); });
  return Lanes::hmax(lanes);
}

void softmax(float* x, size_t n) {
  const F max = Lanes::set1(max_of(x, n));
  F sum = Lanes::zero();
  size_t i = 0;
  for (; i + kStep <= n; i += kStep) {
    const F e = exp(Lanes::sub(Lanes::load(x + i), max));
    Lanes::store(x + i, e);
    sum = Lanes::add(sum, e);
  }
  if (i < n) {
    const F e = exp(Lanes::sub(load_part(x + i, n - i, kMinusInfinity), max));
    store_part(x + i, e, n - i);
    sum = Lanes::add(sum, e);
  }
  const F inverse = Lanes::set1(1.0f / Lanes::hsum(sum));
  map(
      x, x, n, [inverse](F v) __attribute__((always_inline)) { return Lanes::mul(v, inverse); });
}

double log_sum_exp(const float* x, size_t n) {
  const float max = max_of(x, n);
  double sums[kLanes] = {};
  for (size_t i = 0; i < n; i += kStep) {
    const F v = i + kStep <= n ? Lanes::load(x + i) : load_part(x + i, n - i, kMinusInfinity);
    float e[kLanes];
    Lanes::store(e, exp(Lanes::sub(v, Lanes::set1(max))));
    for (size_t l = 0; l < kStep; ++l) sums[l] += static_cast<double>(e[l]);
  }
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int l = 0; l < width; ++l) sums[l] += sums[l + width];
  return static_cast<double>(max) + __builtin_log(sums[0]);
}

double kl_divergence(const float* base, double base_sum, const float* candidate, double candidate_sum, size_t n) {
  const auto upper = static_cast<float>(base_sum);
  const F high = Lanes::set1(upper), low = Lanes::set1(static_cast<float>(base_sum - static_cast<double>(upper)));
  const F shift = Lanes::set1(static_cast<float>(base_sum - candidate_sum));
  const F most = Lanes::set1(1e30f), least = Lanes::set1(-1e30f);
  double sums[kLanes] = {};
  for (size_t i = 0; i < n; i += kStep) {
    const F b = i + kStep <= n ? Lanes::load(base + i) : load_part(base + i, n - i, kMinusInfinity);
    const F c = i + kStep <= n ? Lanes::load(candidate + i) : load_part(candidate + i, n - i, 0.0f);
    const F p = exp(Lanes::sub(Lanes::sub(b, high), low));
    const F difference = Lanes::max(Lanes::min(Lanes::sub(Lanes::sub(b, c), shift), most), least);  // finite: 0 · it is 0
    float terms[kLanes];
    Lanes::store(terms, Lanes::mul(p, difference));
    for (size_t l = 0; l < kStep; ++l) sums[l] += static_cast<double>(terms[l]);
  }
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int l = 0; l < width; ++l) sums[l] += sums[l + width];
  return sums[0] > 0 ? sums[0] : 0.0;
}

}  // namespace

void fill_elementwise_kernels(Kernels& k) {
  k.add = add;
  k.axpy = axpy;
  k.silu_mul = silu_mul;
  k.gelu = gelu;
  k.softmax = softmax;
  k.log_sum_exp = log_sum_exp;
  k.kl_divergence = kl_divergence;
}

}  // namespace tsubu::TSUBU_ISA
