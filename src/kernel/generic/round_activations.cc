// Activations rounded to 8 bits and back: what a CPU path that multiplies integers sees.
//   Q8_0: blocks of 32, q = nearest(x · 127/amax), value q · f16(amax/127).
//   Q8_K: blocks of 256, q = nearest(x · (-127/m)) with m the first value of greatest magnitude, value q / (-127/m) in
//   f32.
// Source: ggml's x86 quantize_row_q8_0 and its quantize_row_q8_K (rules, not code).
#include "base/half.h"
#include "kernel/generic/vector_math.h"
#include "kernel/kernels.h"

namespace tsubu::TSUBU_ISA {

void fill_rounding_kernels(Kernels& k);

namespace {

TSUBU_INLINE F max_magnitude(const float* x, size_t n) {
  return fold(
      x, n, Lanes::zero(), 0.0f,
      [](F acc, F v) __attribute__((always_inline)) { return Lanes::max(acc, Lanes::abs(v)); });
}

TSUBU_INLINE void round_block(const float* x, float* y, size_t n, float to_code, float to_value) {
  const F code_scale = Lanes::set1(to_code), value_scale = Lanes::set1(to_value);
  map(
      x, y, n, [ code_scale, value_scale ](F v) __attribute__((always_inline)) {
        const F code = Lanes::round(Lanes::mul(v, code_scale));
        return Lanes::mul(Lanes::min(code, Lanes::set1(127.0f)), value_scale);
      });
}

void round_q8_0(const float* x, float* y, size_t n) {
  constexpr size_t kBlock = 32;
  for (size_t i = 0; i < n; i += kBlock) {
    const float amax = Lanes::hmax(max_magnitude(x + i, kBlock));
    const float scale = f16_to_f32(f32_to_f16(amax / 127.0f));
    round_block(x + i, y + i, kBlock, amax != 0.0f ? 127.0f / amax : 0.0f, scale);
  }
}

void round_q8_k(const float* x, float* y, size_t n) {
  constexpr size_t kBlock = 256;
  for (size_t i = 0; i < n; i += kBlock) {
    const float amax = Lanes::hmax(max_magnitude(x + i, kBlock));
    float extreme = 0.0f;
    for (size_t j = 0; j < kBlock && extreme == 0.0f; ++j)
      if (x[i + j] == amax || x[i + j] == -amax) extreme = x[i + j];
    const float to_code = extreme != 0.0f ? -127.0f / extreme : 0.0f;
    round_block(x + i, y + i, kBlock, to_code, extreme != 0.0f ? 1.0f / to_code : 0.0f);
  }
}

}  // namespace

void fill_rounding_kernels(Kernels& k) {
  k.round_q8_0 = round_q8_0;
  k.round_q8_k = round_q8_k;
}

}  // namespace tsubu::TSUBU_ISA
