#include "engine/attention.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "engine/elementwise.h"
#include "kernel/kernels.h"

namespace tsubu {
namespace {

constexpr size_t kLaneStep = 16;   // sums run over position % 16
constexpr size_t kBlockRows = 48;  // query rows (token, head of a group) that share a pass over the keys
constexpr size_t kKeyTile = 256;   // keys of one product: the tile and the queries stay in the first-level caches

size_t tokens_per_block(const AttentionShape& s) {
  return std::max<size_t>(1, kBlockRows / (s.n_heads / s.n_kv_heads));
}
size_t align_down(size_t n) { return n / kLaneStep * kLaneStep; }
size_t align_up(size_t n) { return align_down(n + kLaneStep - 1); }

// Scores of one query become weights: softmax over [low, high], 0 elsewhere in [start, end). A sink takes the place behind
// them for as long as it takes.
void weigh(float* scores, size_t start, size_t end, size_t low, size_t high, const float* sink) {
  const size_t aligned = align_down(low), n = high + 1 - aligned;
  std::fill(scores, scores + (aligned - start), 0.0f);
  std::fill(scores + (aligned - start), scores + (low - start), -std::numeric_limits<float>::infinity());
  if (sink) scores[high + 1 - start] = *sink;
  kernels().softmax(scores + (aligned - start), sink ? n + 1 : n);
  std::fill(scores + (high + 1 - start), scores + (end - start), 0.0f);
}

}  // namespace

AttentionShape attention_shape(const Op& op, std::vector<float> sinks) {
  AttentionShape shape = {op.n_heads, op.n_kv_heads, op.head_dim, op.value_dim, op.attention_scale, op.sliding_window, op.softcap};
  if (op.max_alibi_bias != 0) shape.slopes = alibi_slopes(op.n_heads, op.max_alibi_bias);
  shape.sinks = std::move(sinks);
  return shape;
}

std::vector<float> alibi_slopes(size_t n_heads, float max_bias) {
  const auto n = static_cast<double>(std::bit_floor(n_heads)), bias = static_cast<double>(max_bias);
  std::vector<float> slopes(n_heads);
  for (size_t h = 0; h < n_heads; ++h) {
    const auto i = static_cast<double>(h);
    const double power = i < n ? -bias * (i + 1) / n : -bias / 2 * (2 * (i - n) + 1) / n;
    slopes[h] = static_cast<float>(std::exp2(power));
  }
  return slopes;
}

void add_alibi(const AttentionShape& shape, size_t head, float* scores, size_t n) {
  if (shape.slopes.empty()) return;
  for (size_t i = 0; i < n; ++i) scores[i] -= shape.slopes[head] * static_cast<float>(n - 1 - i);
}

void AttentionScratch::reserve(int n_workers, const AttentionShape& shape, const CacheLayer& cache, size_t n_keys) {
  const size_t n_rows = tokens_per_block(shape) * (shape.n_heads / shape.n_kv_heads);
  workers_.resize(static_cast<size_t>(n_workers));
  for (Worker& w : workers_) {
    if (w.scores.size() < n_rows * align_up(n_keys + 1)) w.scores.resize(n_rows * align_up(n_keys + 1));
    if (w.queries.size() < n_rows * shape.head_dim) w.queries.resize(n_rows * shape.head_dim);
    if (w.outputs.size() < n_rows * shape.value_dim) w.outputs.resize(n_rows * shape.value_dim);
    if (w.decoded.size() < cache.buffer_floats(n_keys)) w.decoded.resize(cache.buffer_floats(n_keys));
  }
}

size_t AttentionScratch::worker_floats(const AttentionShape& s, size_t n_keys) {
  return tokens_per_block(s) * (s.n_heads / s.n_kv_heads) * (align_up(n_keys + 1) + s.head_dim + s.value_dim);
}

size_t AttentionScratch::size_bytes() const {
  size_t n = 0;
  for (const Worker& w : workers_) n += w.scores.size() + w.queries.size() + w.outputs.size() + w.decoded.size();
  return n * sizeof(float);
}

void attend(const AttentionShape& shape, const CacheLayer& cache, size_t first, const float* q, float* y,
            size_t n_tokens, AttentionScratch& scratch, ThreadPool& pool) {
  if (n_tokens == 0) return;
  const Kernels& k = kernels();
  const size_t group = shape.n_heads / shape.n_kv_heads, dim = shape.head_dim, width = shape.n_heads * dim;
  const size_t value_dim = shape.value_dim, value_width = shape.n_heads * value_dim;
  const size_t block = tokens_per_block(shape), n_blocks = (n_tokens + block - 1) / block;
  scratch.reserve(pool.size(), shape, cache, first + n_tokens);
  const auto lowest_key = [&](size_t position) {
    return shape.sliding_window > 0 && position >= shape.sliding_window ? position + 1 - shape.sliding_window : 0;
  };

  const auto run = [&](size_t item, int worker) {
    // The last blocks see the most keys: they come first.
    const size_t kv_head = item % shape.n_kv_heads, begin = (n_blocks - 1 - item / shape.n_kv_heads) * block;
    const size_t n_block = std::min(block, n_tokens - begin), n_rows = n_block * group;
    const size_t start = align_down(lowest_key(first + begin)), end = first + begin + n_block;
    const size_t n_keys = end - start, ld = align_up(n_keys + 1);  // room for a sink
    auto& [scores, queries, outputs, decoded] = scratch.workers_[static_cast<size_t>(worker)];

    for (size_t t = 0; t < n_block; ++t) {
      const float* head = q + (begin + t) * width + kv_head * group * dim;
      for (size_t i = 0; i < group * dim; ++i) queries[t * group * dim + i] = head[i] * shape.scale;
    }
    for (size_t key = 0; key < n_keys; key += kKeyTile) {
      const size_t n = std::min(kKeyTile, n_keys - key);
      k.gemm_nt(cache.keys_of(kv_head, start + key, n, decoded.data()), dim, queries.data(), dim, scores.data() + key,
                ld, n, n_rows, dim);
    }
    for (size_t row = 0; row < n_rows; ++row) {
      const size_t position = first + begin + row / group;
      const size_t head = kv_head * group + row % group, low = lowest_key(position);
      float* seen = scores.data() + row * ld + (low - start);
      if (shape.softcap != 0) soft_cap(shape.softcap, seen, position + 1 - low);
      add_alibi(shape, head, seen, position + 1 - low);
      weigh(scores.data() + row * ld, start, end, low, position, shape.sinks.empty() ? nullptr : &shape.sinks[head]);
    }
    size_t stride = 0;
    const float* values = cache.values_of(kv_head, start, n_keys, decoded.data(), stride);
    k.gemm_nt(values, stride, scores.data(), ld, outputs.data(), value_dim, value_dim, n_rows, n_keys);
    for (size_t t = 0; t < n_block; ++t)
      std::copy_n(outputs.data() + t * group * value_dim, group * value_dim,
                  y + (begin + t) * value_width + kv_head * group * value_dim);
  };
  const size_t n_items = shape.n_kv_heads * n_blocks;
  constexpr size_t kWorthThreads = 1 << 16;  // multiplications
  if (n_tokens * (first + n_tokens) * width < kWorthThreads) {
    for (size_t i = 0; i < n_items; ++i) run(i, 0);
  } else {
    pool.parallel_for(n_items, run);
  }
}

}  // namespace tsubu
