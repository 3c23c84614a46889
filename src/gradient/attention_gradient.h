// Gradient of causal grouped-query attention over one window, scores computed again block of queries by block.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/aligned.h"
#include "base/threads.h"
#include "engine/attention.h"

namespace tsubu {

class AttentionGradient {
 public:
  // Of y = attention(q, k, v) given gy = ∂loss/∂y: gq as q, gk and gv as k and v
  // (shapes: attend()). With P = softmax(s Q Kᵀ), for each head
  //   gV = Pᵀ gY, gP = gY Vᵀ, gS = P (gP - Σ P gP), gQ = s gS K, gK = s gSᵀ Q; heads that share keys are added in order.
  // A soft cap multiplies gS by its slope; a sink is one more column of P with a value of zero.
  void run(const AttentionShape& shape, const float* q, const float* k, const float* v, const float* gy, size_t n_tokens,
           float* gq, float* gk, float* gv, ThreadPool& pool);
  // Of the sinks, by head; after run, when the shape has any.
  std::span<const float> sink_gradients() const { return sinks_; }
  uint64_t size_bytes() const;
  // The same after windows of n_tokens, of a shape with so many heads, and widths of keys and values.
  static uint64_t size_bytes(uint64_t n_heads, uint64_t head_dim, uint64_t value_dim, uint64_t n_tokens, int n_threads);

 private:
  struct Worker {
    AlignedVector<float> keys, keys_transposed, values;                           // of one head
    AlignedVector<float> q, q_transposed, gy, gy_transposed, scores, gradient, transposed, product,
        slopes;  // of a block
  };
  void head(const AttentionShape& shape, size_t head, const float* q, const float* k, const float* v, const float* gy,
            size_t n_tokens, float* gq, Worker& w);
  std::vector<Worker> workers_;
  AlignedVector<float> key_sums_, value_sums_;  // (head, n_tokens, head_dim or value_dim)
  std::vector<float> sinks_;
};

}  // namespace tsubu
