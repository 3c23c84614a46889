// The kernels of one instruction set, chosen once at start. Every entry gives the same bits on every ISA: reductions run
// over 16 fixed lanes and one fixed tree, multiplication and addition are never contracted unless written as fma.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace tsubu {

inline constexpr size_t kMaxTypes = 64;  // more than the codec list holds; checked where the tables are made

struct Kernels {
  std::string_view isa;  // "scalar", "avx2", "avx512", "neon"

  // Indexed by TypeInfo::index; same contracts and same bytes as TypeInfo::decode and TypeInfo::encode.
  void (*decode[kMaxTypes])(const std::byte* blocks, float* y, size_t n);
  void (*encode[kMaxTypes])(const float* x, const float* importance, std::byte* blocks, size_t n);  // or nullptr

  // c(n_tokens, n_rows) = x(n_tokens, n_cols) · w(n_rows, n_cols)ᵀ, f32, row-major with leading dimensions in floats.
  // Each element is one fixed-order dot product: it does not depend on n_tokens, n_rows or on tiling.
  void (*gemm_nt)(const float* w, size_t ldw, const float* x, size_t ldx, float* c, size_t ldc, size_t n_rows,
                  size_t n_tokens, size_t n_cols);
  // g (16·n_x rows, 16·n_y columns, double, leading dimension ldg) += sums over tokens of x_i y_j. x and y are panels: a
  // panel holds sixteen columns of n_tokens tokens, token by token (p[16 t + c]); panels follow each other. An element is
  // one f32 fma chain over the tokens in order, added once in double: relative error of a call at most
  // n_tokens · 2^-24 · Σ|x_i y_j|, so keep n_tokens at some hundreds.
  void (*gram)(const float* x, size_t n_x, const float* y, size_t n_y, size_t n_tokens, double* g, size_t ldg);
  // Per column of x (n_tokens, n_cols): sum += Σx, squares += Σx² (chains as in gram), max_abs = max(max_abs, |x|).
  void (*column_moments)(const float* x, size_t ldx, size_t n_tokens, size_t n_cols, double* sum, double* squares,
                         float* max_abs);
  float (*dot)(const float* a, const float* b, size_t n);
  void (*axpy)(float a, const float* x, float* y, size_t n);  // y += a x, multiply then add
  // y = x / rms(x) * weight, rms over n with eps inside the root; sums in f32 lanes. weight may be nullptr.
  void (*rms_norm)(const float* x, const float* weight, float* y, size_t n, float eps);
  void (*layer_norm)(const float* x, const float* weight, const float* bias, float* y, size_t n, float eps);
  void (*softmax)(float* x, size_t n);              // in place, max-subtracted
  double (*log_sum_exp)(const float* x, size_t n);  // accumulated in double
  void (*silu_mul)(const float* gate, const float* up, float* y, size_t n);  // y = gate·sigmoid(gate)·up
  void (*gelu)(const float* x, float* y, size_t n);                          // tanh form
  void (*add)(const float* a, const float* b, float* y, size_t n);
  // Rounds activations as an 8-bit CPU path does and returns them as floats: blocks of `block` (32: scale rounded to
  // f16, amax/127; 256: f32 scale, signed max/-127 as Q8_K) — see engine for which type uses which.
  void (*round_q8_0)(const float* x, float* y, size_t n);
  void (*round_q8_k)(const float* x, float* y, size_t n);
};

// The kernels in use: the best this machine runs, or the one TSUBU_ISA names (Error(kUsage) when that is unknown or not
// runnable here).
const Kernels& kernels();
// Every ISA compiled in that this machine can run, scalar first: for tests.
std::span<const Kernels* const> runnable_kernels();
// The one of that name; Error(kUsage) listing what is available when there is none.
const Kernels& kernels_named(std::string_view name);

}  // namespace tsubu
