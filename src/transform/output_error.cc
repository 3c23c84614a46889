#include "transform/output_error.h"

#include <algorithm>

#include "kernel/kernels.h"

namespace tsubu {
namespace {

constexpr size_t kRowsAtOnce = 16;

// Σ over rows of d G dᵀ, where fill(row, d) gives d.
double quadratic_form(const SampledRows& rows, const Activations& a, ThreadPool& pool,
                      const std::function<void(size_t row, float* d)>& fill) {
  const size_t n = rows.n_cols, n_items = (rows.n_rows + kRowsAtOnce - 1) / kRowsAtOnce;
  std::vector<double> sums(n_items);
  std::vector<std::vector<float>> scratch(static_cast<size_t>(pool.size()), std::vector<float>(2 * kRowsAtOnce * n));
  pool.parallel_for(n_items, [&](size_t item, int worker) {
    float* d = scratch[static_cast<size_t>(worker)].data();
    float* product = d + kRowsAtOnce * n;
    const size_t first = item * kRowsAtOnce, count = std::min(kRowsAtOnce, rows.n_rows - first);
    for (size_t r = 0; r < count; ++r) fill(first + r, d + r * n);
    kernels().gemm_nt(a.gram.data(), n, d, n, product, n, n, count, n);
    for (size_t r = 0; r < count; ++r) sums[item] += static_cast<double>(kernels().dot(d + r * n, product + r * n, n));
  });
  double total = 0;
  for (double s : sums) total += s;
  return total / rows.share;
}

}  // namespace

SampledRows sample_rows(const ModelTensor& tensor, size_t at_most) {
  SampledRows rows;
  rows.n_cols = tensor.n_cols();
  rows.n_rows = std::min<size_t>(at_most, tensor.n_rows());
  rows.share = static_cast<double>(rows.n_rows) / static_cast<double>(tensor.n_rows());
  rows.values.resize(rows.n_rows * rows.n_cols);
  for (size_t i = 0; i < rows.n_rows; ++i)
    tensor.read_rows(i * tensor.n_rows() / rows.n_rows, 1, rows.values.data() + i * rows.n_cols);
  return rows;
}

double scaled_rounding_error(const SampledRows& rows, const RoundingTarget& target, const Activations& activations,
                             std::span<const double> scales, ThreadPool& pool) {
  const size_t n = rows.n_cols;
  std::vector<float> importance(target.importance ? n : 0), scale(n);
  for (size_t c = 0; c < n; ++c) {
    scale[c] = static_cast<float>(scales[c]);
    if (target.importance) importance[c] = static_cast<float>(activations.mean_squares[c] / (scales[c] * scales[c]));
  }
  if (target.round) {
    std::vector<float> scaled(rows.values.size()), rounded(rows.values.size());
    for (size_t i = 0; i < scaled.size(); ++i) scaled[i] = rows.values[i] * scale[i % n];
    target.round(scaled.data(), rows.n_rows, n, importance, rounded.data(), pool);
    return quadratic_form(rows, activations, pool, [&](size_t row, float* d) {
      for (size_t c = 0; c < n; ++c) d[c] = rounded[row * n + c] / scale[c] - rows.values[row * n + c];
    });
  }
  const TypeInfo& type = *target.type;
  return quadratic_form(rows, activations, pool, [&](size_t row, float* d) {
    thread_local std::vector<std::byte> blocks;
    blocks.resize(n / type.block_len * type.block_bytes);
    const float* w = rows.values.data() + row * n;
    for (size_t c = 0; c < n; ++c) d[c] = w[c] * scale[c];
    kernels().encode[type.index](d, target.importance ? importance.data() : nullptr, blocks.data(), n);
    kernels().decode[type.index](blocks.data(), d, n);
    for (size_t c = 0; c < n; ++c) d[c] = d[c] / scale[c] - w[c];
  });
}

double output_square(const SampledRows& rows, const Activations& activations, ThreadPool& pool) {
  return quadratic_form(rows, activations, pool, [&](size_t row, float* d) {
    std::copy_n(rows.values.data() + row * rows.n_cols, rows.n_cols, d);
  });
}

}  // namespace tsubu
