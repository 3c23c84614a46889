#include "engine/quantized_weights.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "kernel/kernels.h"

namespace tsubu {
namespace {

constexpr size_t kRowsAnItem = 32;

// f(first row, number of rows, the rows as floats) over all rows.
template <class Fn>
void each_rows(const ModelTensor& source, ThreadPool& pool, Fn f) {
  const size_t n_rows = source.n_rows(), n_cols = source.n_cols();
  std::vector<std::vector<float>> buffers(static_cast<size_t>(pool.size()));
  pool.parallel_for((n_rows + kRowsAnItem - 1) / kRowsAnItem, [&](size_t item, int worker) {
    std::vector<float>& rows = buffers[static_cast<size_t>(worker)];
    rows.resize(kRowsAnItem * n_cols);
    const size_t first = item * kRowsAnItem, n = std::min(kRowsAnItem, n_rows - first);
    source.read_rows(first, n, rows.data());
    f(first, n, rows.data());
  });
}

}  // namespace

QuantizedWeights::QuantizedWeights(const ModelTensor& source, const Scheme& scheme, ThreadPool& pool)
    : scheme_(scheme),
      n_rows_(source.n_rows()),
      n_cols_(source.n_cols()),
      group_(scheme.columns_per_scale(source.n_cols())) {
  codes_.resize(n_rows_ * n_cols_);
  scales_.resize((n_cols_ + group_ - 1) / group_ * n_rows_);
  find_scales(source, pool);
  encode(source, pool);
}

void QuantizedWeights::find_scales(const ModelTensor& source, ThreadPool& pool) {
  const size_t n_groups = scales_.size() / n_rows_;
  each_rows(source, pool, [&](size_t first, size_t n, const float* rows) {
    for (size_t r = 0; r < n; ++r)
      for (size_t g = 0; g < n_groups; ++g) {
        const float* x = rows + r * n_cols_ + g * group_;
        scales_[g * n_rows_ + first + r] = kernels().max_magnitude(x, std::min(group_, n_cols_ - g * group_));
      }
  });
  for (const float amax : scales_)
    if (!std::isfinite(amax))
      fail(ExitCode::kNumeric, "tensor {}: a weight is not finite: it cannot be rounded to {}", source.name(),
           scheme_.name());
  // Rows that share a scale.
  size_t together = 1;
  if (scheme_.granularity == Granularity::kTensor) together = n_rows_;
  if (scheme_.granularity == Granularity::kBlock) together = scheme_.size;
  for (size_t g = 0; g < n_groups; ++g) {
    float* scales = scales_.data() + g * n_rows_;
    for (size_t first = 0; first < n_rows_; first += together) {
      float* last = scales + std::min(n_rows_, first + together);
      const float amax = *std::max_element(scales + first, last);
      std::fill(scales + first, last, scheme_.scale_of(amax));
    }
  }
}

void QuantizedWeights::encode(const ModelTensor& source, ThreadPool& pool) {
  const NumberFormat& format = *scheme_.format;
  each_rows(source, pool, [&](size_t first, size_t n, const float* rows) {
    for (size_t r = 0; r < n; ++r) {
      for (size_t g = 0; g * group_ < n_cols_; ++g) {
        const size_t at = g * group_, n_group = std::min(group_, n_cols_ - at);
        const float* x = rows + r * n_cols_ + at;
        uint8_t* codes = codes_.data() + (first + r) * n_cols_ + at;
        const float scale = *scales(g, first + r);
        if (scale == 0) continue;  // the codes are 0
        if (format.is_integer) {
          kernels().encode_i8(x, scale, format.largest(), reinterpret_cast<int8_t*>(codes), n_group);
        } else {
          for (size_t i = 0; i < n_group; ++i) codes[i] = format.encode(x[i] / scale);
        }
      }
    }
  });
}

void QuantizedWeights::decode(size_t first, size_t n, float* out) const {
  const std::span<const float, 256> values = scheme_.format->values();
  for (size_t r = first; r < first + n; ++r, out += n_cols_) {
    const uint8_t* codes = codes_.data() + r * n_cols_;
    for (size_t g = 0; g * group_ < n_cols_; ++g) {
      const float scale = *scales(g, r);
      const size_t last = std::min(n_cols_, (g + 1) * group_);
      for (size_t i = g * group_; i < last; ++i) out[i] = values[codes[i]] * scale;
    }
  }
}

}  // namespace tsubu
