// The kernels of one instruction set, chosen once at start. Every entry but products_bf16 gives the same bits on every ISA: reductions run
// over 16 fixed lanes and one fixed tree, multiplication and addition are never contracted unless written as fma.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "codec/number_format.h"

namespace tsubu {

struct GridPanel;
struct LatticePanel;

inline constexpr size_t kMaxTypes = 64;  // more than the codec list holds; checked where the tables are made

// Products of two signed bytes are at most 2^14 in size, so sums of so many fit into 32 bits.
inline constexpr size_t kMaxIntegerCols = (size_t{1} << 17) - 1;

struct Kernels {
  std::string_view isa;  // "scalar", "avx2", "avx512", "amx", "neon"

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
  // c (n_a, 16·n_panels) = a · b of bfloat16 numbers, summed in f32; two neighbours along the summed dimension are a pair
  // in 32 bits. a: (n_a, n_pairs) row-major, lda in pairs. b: panels of sixteen columns, pair by pair
  // (b[16·(n_pairs·panel + pair) + column]). n_pairs is a multiple of 16: pad with zeros. Rows of a do not see each other.
  // Products are exact, one rounding for each addition at most, in an order that is the instruction set's own: the one
  // kernel whose bits depend on it.
  void (*products_bf16)(const uint32_t* a, size_t lda, const uint32_t* b, size_t n_panels, size_t n_pairs, size_t n_a,
                        float* c, size_t ldc);
  bool native_bf16;  // products_bf16 is faster than f32 products here
  // Nearest bfloat16, ties to even; infinities and quiet NaNs stay.
  void (*round_to_bf16)(const float* x, size_t n, uint16_t* y);
  void (*pair_rows_bf16)(const float* first, const float* second, size_t n, uint32_t* pairs);  // first in the low half
  void (*transpose_pairs)(const uint32_t* in, size_t ld_in, uint32_t* out, size_t ld_out);     // 16 × 16
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
  // Σ p (ln p - ln q), at least 0, of p = e^(base - base_sum), q = e^(candidate - candidate_sum); the sums are log_sum_exp's.
  // Terms in f32, added in double; equal logits give 0. Relative error of a term: 2^-20 and that of the difference.
  double (*kl_divergence)(const float* base, double base_sum, const float* candidate, double candidate_sum, size_t n);
  void (*silu_mul)(const float* gate, const float* up, float* y, size_t n);  // y = gate·sigmoid(gate)·up
  void (*gelu)(const float* x, float* y, size_t n);                          // tanh form
  void (*add)(const float* a, const float* b, float* y, size_t n);
  // Rounds activations as an 8-bit CPU path does and returns them as floats: blocks of `block` (32: scale rounded to
  // f16, amax/127; 256: f32 scale, signed max/-127 as Q8_K) — see engine for which type uses which.
  void (*round_q8_0)(const float* x, float* y, size_t n);
  void (*round_q8_k)(const float* x, float* y, size_t n);

  // c(n_rows, n_cols) -= a(n_rows, n_k) · b(n_k, n_cols), row-major; every element one fma chain over k.
  void (*subtract_product)(double* c, size_t ldc, const double* a, size_t lda, const double* b, size_t ldb,
                           size_t n_rows, size_t n_cols, size_t n_k);
  // x m = b and x mᵀ = b in place for sixteen rows x, stored (column, row); m unit upper triangular, n × n.
  void (*solve_unit_upper)(float* x, const float* m, size_t ldm, size_t n);
  void (*solve_unit_upper_transposed)(float* x, const float* m, size_t ldm, size_t n);

  // Rounding on grids, sixteen rows at a time (kernel/grid_panel.h; arrays of (column, row)).
  // Rounds one block's columns in order, each at its target t, and moves the targets of the span's later columns by
  // residual · m (unit upper triangular, of the span). w: the weights themselves. choose: integer scales and minimums are
  // chosen anew at each sub-block's entry by the error weighted with `weight` (one for each column).
  void (*grid_feedback)(GridPanel& panel, int block, const float* w, float* t, const float* m, size_t ldm,
                        const float* weight, bool choose);
  // Lowers r H rᵀ, r = w - ŵ, for all blocks of the span; g = r H on entry and on return. h: the span's part of H.
  void (*grid_descend)(GridPanel& panel, float* g, const float* h, size_t ldh, int n_passes, bool codes_only);
  // The same for a span of one block of a type with a lattice (kernel/lattice_panel.h), or nullptr. weight: pivots of
  // the span, the exact price of what feedback leaves in a column.
  void (*lattice_feedback[kMaxTypes])(LatticePanel& panel, const float* w, float* t, const float* m, size_t ldm,
                                      const float* weight, bool choose);
  void (*lattice_descend[kMaxTypes])(LatticePanel& panel, float* g, const float* h, size_t ldh, bool codes_only);

  // c(n_tokens, n_rows) = x(n_tokens, n_cols) · w(n_rows, n_cols)ᵀ of signed bytes, exact in 32 bits for n_cols up to
  // kMaxIntegerCols. Leading dimensions in elements.
  void (*gemm_i8)(const int8_t* w, size_t ldw, const int8_t* x, size_t ldx, int32_t* c, size_t ldc, size_t n_rows,
                  size_t n_tokens, size_t n_cols);
  // y[i] = float(acc[i]) · (scales[i] · scale): three roundings; with `add`, y[i] = fma(float(acc[i]), scales[i] · scale,
  // y[i]).
  void (*scale_sums)(const int32_t* acc, const float* scales, float scale, float* y, size_t n, bool add);
  // Largest |x|; NaN when any x is not finite.
  float (*max_magnitude)(const float* x, size_t n);
  // codes[i] = nearest integer to x[i] / scale, ties to even, within ±limit (at most 127). scale must not be 0; any codes
  // when it is NaN.
  void (*encode_i8)(const float* x, float scale, float limit, int8_t* codes, size_t n);
  // y[i] = scale · (x[i] / scale rounded by the rule). NaN when scale is; scale must not be 0.
  void (*round_to_rule)(const float* x, float scale, const RoundingRule& rule, float* y, size_t n);
};

// The kernels in use: the best this machine runs, or the one TSUBU_ISA names (Error(kUsage) when that is unknown or not
// runnable here).
const Kernels& kernels();
// Every ISA compiled in that this machine can run, scalar first: for tests.
std::span<const Kernels* const> runnable_kernels();
// The one of that name; Error(kUsage) listing what is available when there is none.
const Kernels& kernels_named(std::string_view name);

}  // namespace tsubu
