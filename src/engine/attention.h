// Causal grouped-query attention over the key/value cache.
#pragma once

#include <cstddef>
#include <vector>

#include "base/threads.h"
#include "engine/kv_cache.h"
#include "model/graph.h"

namespace tsubu {

struct AttentionShape {
  size_t n_heads = 0, n_kv_heads = 0, head_dim = 0, value_dim = 0;
  float scale = 1;
  size_t sliding_window = 0;  // 0: none
  float softcap = 0;          // scores become c · tanh(score / c); 0: none
  std::vector<float> slopes = {};  // by head (ALiBi): a key d tokens back loses d · slope; empty: none
  std::vector<float> sinks = {};   // by head: a score more in the softmax, without a value; empty: none
};

// Of an attention operation; sinks: the values of its `weight`.
AttentionShape attention_shape(const Op& op, std::vector<float> sinks);

// ALiBi's slopes: powers of 2^(-max_bias / n) for n heads, n a power of two; else the odd powers of the next such series
// follow. Source: arXiv:2108.12409, its reference code.
std::vector<float> alibi_slopes(size_t n_heads, float max_bias);

// ALiBi, when the shape has it, on a head's scores of the n keys up to the query's own position.
void add_alibi(const AttentionShape& shape, size_t head, float* scores, size_t n);

// Scores, scaled queries and outputs of one block of queries, and what is decoded of one head of a compact cache, for
// each worker.
class AttentionScratch {
 public:
  void reserve(int n_workers, const AttentionShape& shape, const CacheLayer& cache, size_t n_keys);
  size_t size_bytes() const;
  // Of one worker, but for what a compact cache decodes.
  static size_t worker_floats(const AttentionShape& shape, size_t n_keys);

 private:
  friend void attend(const AttentionShape&, const CacheLayer&, size_t, const float*, float*, size_t, AttentionScratch&,
                     ThreadPool&);
  struct Worker {
    std::vector<float> scores, queries, outputs, decoded;
  };
  std::vector<Worker> workers_;
};

// q is (n_tokens, n_heads · head_dim), y (n_tokens, n_heads · value_dim); token t stands at position first + t, and the cache holds the keys and
// values of all positions up to first + n_tokens - 1. Lanes of every sum go by absolute position, so the result of a
// token does not depend on which tokens are computed with it.
void attend(const AttentionShape& shape, const CacheLayer& cache, size_t first, const float* q, float* y,
            size_t n_tokens, AttentionScratch& scratch, ThreadPool& pool);

}  // namespace tsubu
