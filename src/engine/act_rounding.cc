#include "engine/act_rounding.h"

#include "base/half.h"
#include "kernel/kernels.h"

namespace tsubu {
namespace {

constexpr uint32_t kF16Id = 1, kBf16Id = 30, kSuperBlock = 256;

}  // namespace

// Source: the vec_dot_type of each type in ggml's CPU backend: Q8_K for every super-block format, Q8_0 for every
// shorter one (Q8_1, which Q4_1 and Q5_1 name, rounds the same way and only adds a sum), and the type itself for plain
// halves.
ActRounding act_rounding_of(const TypeInfo& weight_type) {
  if (weight_type.gguf_id == kF16Id) return ActRounding::kF16;
  if (weight_type.gguf_id == kBf16Id) return ActRounding::kBf16;
  if (!weight_type.is_quantized) return ActRounding::kNone;
  return weight_type.block_len == kSuperBlock ? ActRounding::kQ8_K : ActRounding::kQ8_0;
}

void round_activations(ActRounding rounding, const float* x, float* y, size_t n) {
  switch (rounding) {
    case ActRounding::kQ8_0:
      return kernels().round_q8_0(x, y, n);
    case ActRounding::kQ8_K:
      return kernels().round_q8_k(x, y, n);
    case ActRounding::kF16:
      for (size_t i = 0; i < n; ++i) y[i] = f16_to_f32(f32_to_f16(x[i]));
      return;
    case ActRounding::kBf16:
      for (size_t i = 0; i < n; ++i) y[i] = bf16_to_f32(f32_to_bf16(x[i]));
      return;
    case ActRounding::kNone:
      for (size_t i = 0; i < n; ++i) y[i] = x[i];
      return;
  }
}

}  // namespace tsubu
