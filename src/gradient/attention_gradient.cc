#include "gradient/attention_gradient.h"

#include <algorithm>

#include "engine/elementwise.h"
#include "gradient/linear_gradient.h"
#include "kernel/kernels.h"

namespace tsubu {
namespace {

constexpr size_t kBlock = 48;  // queries of one block: whole tiles of the products on every ISA

void grow(AlignedVector<float>& v, size_t n) {
  if (v.size() < n) v.resize(n);
}

// Columns [head · dim, (head + 1) · dim) of rows [first, first + n).
void copy_head(const float* x, size_t width, size_t head, size_t dim, size_t first, size_t n, float scale, float* out) {
  for (size_t t = 0; t < n; ++t) {
    const float* from = x + (first + t) * width + head * dim;
    for (size_t i = 0; i < dim; ++i) out[t * dim + i] = scale * from[i];
  }
}

}  // namespace

void AttentionGradient::head(const AttentionShape& s, size_t head, const float* q, const float* k, const float* v,
                             const float* gy, size_t n, float* gq, Worker& w) {
  const Kernels& kernel = kernels();
  const size_t dim = s.head_dim, width = s.n_heads * dim, width_kv = s.n_kv_heads * dim;
  const size_t value_dim = s.value_dim, value_width = s.n_heads * value_dim, widest = std::max(dim, value_dim);
  const size_t kv_head = head / (s.n_heads / s.n_kv_heads), stride = padded_stride(n), block_stride = padded_stride(kBlock);
  grow(w.keys, n * dim);
  grow(w.values, n * value_dim);
  grow(w.product, n * widest);
  grow(w.keys_transposed, dim * stride);
  for (auto* block : {&w.q, &w.gy}) grow(*block, kBlock * widest);
  for (auto* block : {&w.q_transposed, &w.gy_transposed}) grow(*block, widest * block_stride);
  for (auto* block : {&w.scores, &w.gradient}) grow(*block, kBlock * stride);
  grow(w.slopes, n);
  double sink_sum = 0;
  grow(w.transposed, n * block_stride);
  copy_head(k, width_kv, kv_head, dim, 0, n, 1, w.keys.data());
  copy_head(v, s.n_kv_heads * value_dim, kv_head, value_dim, 0, n, 1, w.values.data());
  transpose(w.keys.data(), dim, n, dim, w.keys_transposed.data(), stride);
  float* gk = key_sums_.data() + head * n * dim;
  float* gv = value_sums_.data() + head * n * value_dim;
  std::fill(gk, gk + n * dim, 0.0f);
  std::fill(gv, gv + n * value_dim, 0.0f);

  const auto lowest_key = [&](size_t position) {
    return s.sliding_window > 0 && position >= s.sliding_window ? position + 1 - s.sliding_window : 0;
  };
  for (size_t first = 0; first < n; first += kBlock) {
    const size_t rows = std::min(kBlock, n - first), low = lowest_key(first), m = first + rows - low;
    copy_head(q, width, head, dim, first, rows, s.scale, w.q.data());
    copy_head(gy, value_width, head, value_dim, first, rows, 1, w.gy.data());
    kernel.gemm_nt(w.keys.data() + low * dim, dim, w.q.data(), dim, w.scores.data(), stride, m, rows, dim);
    kernel.gemm_nt(w.values.data() + low * value_dim, value_dim, w.gy.data(), value_dim, w.gradient.data(), stride, m, rows,
                   value_dim);
    for (size_t r = 0; r < rows; ++r) {
      float* p = w.scores.data() + r * stride;
      float* g = w.gradient.data() + r * stride;
      const size_t begin = lowest_key(first + r) - low, count = first + r + 1 - low - begin;
      std::fill(p, p + begin, 0.0f);
      if (s.softcap != 0) {
        soft_cap(s.softcap, p + begin, count);
        for (size_t j = 0; j < count; ++j) w.slopes[j] = 1.0f - p[begin + j] / s.softcap * (p[begin + j] / s.softcap);
      }
      add_alibi(s, head, p + begin, count);
      const bool sinks = !s.sinks.empty();
      if (sinks) p[begin + count] = s.sinks[head];  // rows have room for one score more
      kernel.softmax(p + begin, sinks ? count + 1 : count);
      const float sink = sinks ? p[begin + count] : 0.0f;
      std::fill(p + begin + count, p + m, 0.0f);
      const float mean = kernel.dot(p + begin, g + begin, count);
      for (size_t j = 0; j < m; ++j) g[j] = p[j] * (g[j] - mean);
      for (size_t j = 0; s.softcap != 0 && j < count; ++j) g[begin + j] *= w.slopes[j];
      sink_sum -= static_cast<double>(sink) * static_cast<double>(mean);
    }
    // The queries carry the scale already, the keys do not.
    float* out = w.product.data();
    kernel.gemm_nt(w.keys_transposed.data() + low, stride, w.gradient.data(), stride, out, dim, dim, rows, m);
    for (size_t r = 0; r < rows; ++r)
      for (size_t i = 0; i < dim; ++i) gq[(first + r) * width + head * dim + i] = s.scale * out[r * dim + i];
    transpose(w.q.data(), dim, rows, dim, w.q_transposed.data(), block_stride);
    transpose(w.gy.data(), value_dim, rows, value_dim, w.gy_transposed.data(), block_stride);
    const auto add_product = [&](const float* weights, const float* side, size_t side_dim, float* sum) {
      transpose(weights, stride, rows, m, w.transposed.data(), block_stride);
      kernel.gemm_nt(side, block_stride, w.transposed.data(), block_stride, out, side_dim, side_dim, m, rows);
      kernel.add(sum, out, sum, m * side_dim);
    };
    add_product(w.gradient.data(), w.q_transposed.data(), dim, gk + low * dim);
    add_product(w.scores.data(), w.gy_transposed.data(), value_dim, gv + low * value_dim);
  }
  if (!s.sinks.empty()) sinks_[head] = static_cast<float>(sink_sum);
}

void AttentionGradient::run(const AttentionShape& s, const float* q, const float* k, const float* v, const float* gy,
                            size_t n, float* gq, float* gk, float* gv, ThreadPool& pool) {
  const size_t group = s.n_heads / s.n_kv_heads;
  workers_.resize(static_cast<size_t>(pool.size()));
  grow(key_sums_, s.n_heads * n * s.head_dim);
  grow(value_sums_, s.n_heads * n * s.value_dim);
  sinks_.assign(s.sinks.size(), 0.0f);
  pool.parallel_for(s.n_heads, [&](size_t h, int worker) {
    head(s, h, q, k, v, gy, n, gq, workers_[static_cast<size_t>(worker)]);
  });
  pool.parallel_for(s.n_kv_heads, [&](size_t kv_head, int) {
    for (const bool keys : {true, false}) {
      const size_t dim = keys ? s.head_dim : s.value_dim, width_kv = s.n_kv_heads * dim;
      const float* sums = (keys ? key_sums_ : value_sums_).data() + kv_head * group * n * dim;
      float* out = (keys ? gk : gv) + kv_head * dim;
      for (size_t t = 0; t < n; ++t) std::copy_n(sums + t * dim, dim, out + t * width_kv);
      for (size_t h = 1; h < group; ++h)
        for (size_t t = 0; t < n; ++t)
          kernels().add(out + t * width_kv, sums + (h * n + t) * dim, out + t * width_kv, dim);
    }
  });
}

uint64_t AttentionGradient::size_bytes() const {
  uint64_t floats = key_sums_.size() + value_sums_.size();
  for (const Worker& w : workers_)
    for (const auto* v : {&w.keys, &w.keys_transposed, &w.values, &w.q, &w.q_transposed, &w.gy, &w.gy_transposed, &w.scores,
                          &w.gradient, &w.transposed, &w.product, &w.slopes})
      floats += v->size();
  return floats * sizeof(float);
}

uint64_t AttentionGradient::size_bytes(uint64_t n_heads, uint64_t dim, uint64_t value_dim, uint64_t n, int n_threads) {
  const uint64_t stride = padded_stride(n), block_stride = padded_stride(kBlock), widest = std::max(dim, value_dim);
  const uint64_t worker = n * (dim + value_dim + widest) + dim * stride + 2 * kBlock * widest + 2 * widest * block_stride +
                          2 * kBlock * stride + n + n * block_stride;
  return (n_heads * n * (dim + value_dim) + static_cast<uint64_t>(n_threads) * worker) * sizeof(float);
}

}  // namespace tsubu
