#include "engine/quantized_linear.h"

#include <algorithm>

#include "base/error.h"
#include "kernel/kernels.h"

namespace tsubu {
namespace {

constexpr size_t kTokenBlock = 120;  // tokens whose sums stay in the first caches; a multiple of the kernels' tiles

void grow(auto& buffer, size_t n) {
  if (buffer.size() < n) buffer.resize(n);
}

}  // namespace

size_t QuantizedScratch::size_bytes() const {
  return (weights.size() + outlier_weights.size() + products.size()) * sizeof(float) + sums.size() * sizeof(int32_t);
}

QuantizedLinear::QuantizedLinear(const Linear& source, const std::string& name, const Numerics& numerics,
                                 ThreadPool& pool)
    : source_(source) {
  if (numerics.weights) weights_ = std::make_unique<QuantizedWeights>(source.weight(), *numerics.weights, pool);
  as_codes_ = numerics.integer_products(source.n_cols()) && source.n_cols() <= kMaxIntegerCols;
  if (!numerics.activations || numerics.activations->granularity != Granularity::kTensor) return;
  if (numerics.outliers > 0)
    fail(ExitCode::kUsage,
         "activations in {}: outlier columns need scales that are found as tokens come: choose {}:token",
         numerics.activations->name(), numerics.activations->format->name);
  const auto found = numerics.static_magnitudes.find(name);
  if (found == numerics.static_magnitudes.end())
    fail(ExitCode::kUsage, "activations in {}: no magnitude is known for the input of {} (calibrate first)",
         numerics.activations->name(), name);
  static_magnitude_ = found->second;
}

void QuantizedLinear::run(const QuantizedInputs& x, float* y, std::span<QuantizedScratch> scratch,
                          ThreadPool& pool) const {
  each_row_tile(source_.n_rows(), source_.n_cols(), x.n_tokens(), pool, [&](size_t first, size_t n, int worker) {
    QuantizedScratch& own = scratch[static_cast<size_t>(worker)];
    if (as_codes_)
      run_codes(x, first, n, y, own);
    else
      run_floats(x, first, n, y, own);
    if (!x.outlier_columns().empty()) add_outliers(x, first, n, y, own);
    source_.add_bias(y, x.n_tokens(), first, n);
  });
}

void QuantizedLinear::run_codes(const QuantizedInputs& x, size_t first, size_t n, float* y,
                                QuantizedScratch& scratch) const {
  const Kernels& k = kernels();
  const size_t n_cols = source_.n_cols(), n_rows = source_.n_rows();
  const size_t w_stretch = weights_->columns_per_scale(), x_stretch = x.columns_per_scale();
  const size_t stretch = std::min(w_stretch, x_stretch);
  grow(scratch.sums, std::min(kTokenBlock, x.n_tokens()) * n);
  for (size_t t = 0; t < x.n_tokens(); t += kTokenBlock) {
    const size_t n_tokens = std::min(kTokenBlock, x.n_tokens() - t);
    for (size_t c = 0; c < n_cols; c += stretch) {
      k.gemm_i8(weights_->codes(first) + c, n_cols, x.codes() + t * n_cols + c, n_cols, scratch.sums.data(), n, n,
                n_tokens, std::min(stretch, n_cols - c));
      const float* scales = weights_->scales(c / w_stretch, first);
      for (size_t i = 0; i < n_tokens; ++i)
        k.scale_sums(scratch.sums.data() + i * n, scales, x.scale(t + i, c / x_stretch), y + (t + i) * n_rows + first,
                     n, c > 0);
    }
  }
}

void QuantizedLinear::run_floats(const QuantizedInputs& x, size_t first, size_t n, float* y,
                                 QuantizedScratch& scratch) const {
  const size_t n_cols = source_.n_cols(), n_rows = source_.n_rows();
  grow(scratch.weights, n * n_cols);
  const float* rows = scratch.weights.data();
  if (weights_)
    weights_->decode(first, n, scratch.weights.data());
  else
    rows = source_.rows(first, n, scratch.weights.data());
  kernels().gemm_nt(rows, n_cols, x.values(), n_cols, y + first, n_rows, n, x.n_tokens(), n_cols);
}

void QuantizedLinear::add_outliers(const QuantizedInputs& x, size_t first, size_t n, float* y,
                                   QuantizedScratch& scratch) const {
  const std::span<const uint32_t> columns = x.outlier_columns();
  const size_t n_cols = source_.n_cols(), n_rows = source_.n_rows(), n_outliers = columns.size();
  grow(scratch.weights, n * n_cols);
  grow(scratch.outlier_weights, n * n_outliers);
  grow(scratch.products, std::min(kTokenBlock, x.n_tokens()) * n);
  const float* rows = source_.rows(first, n, scratch.weights.data());
  for (size_t r = 0; r < n; ++r)
    for (size_t i = 0; i < n_outliers; ++i) scratch.outlier_weights[r * n_outliers + i] = rows[r * n_cols + columns[i]];
  for (size_t t = 0; t < x.n_tokens(); t += kTokenBlock) {
    const size_t n_tokens = std::min(kTokenBlock, x.n_tokens() - t);
    kernels().gemm_nt(scratch.outlier_weights.data(), n_outliers, x.outlier_values() + t * n_outliers, n_outliers,
                      scratch.products.data(), n, n, n_tokens, n_outliers);
    for (size_t i = 0; i < n_tokens; ++i) {
      float* out = y + (t + i) * n_rows + first;
      kernels().add(out, scratch.products.data() + i * n, out, n);
    }
  }
}

}  // namespace tsubu
