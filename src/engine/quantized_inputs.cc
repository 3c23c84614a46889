#include "engine/quantized_inputs.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernel/kernels.h"

namespace tsubu {
namespace {

constexpr size_t kTokensAnItem = 8;

void grow(auto& buffer, size_t n) {
  if (buffer.size() < n) buffer.resize(n);
}

}  // namespace

void QuantizedInputs::assign(const float* x, size_t n, size_t n_cols, const Numerics& numerics, float static_magnitude,
                             bool as_codes, ThreadPool& pool) {
  const std::optional<Scheme>& scheme = numerics.activations;
  n_tokens_ = n;
  n_cols_ = n_cols;
  group_ = scheme ? scheme->columns_per_scale(n_cols) : n_cols;
  n_groups_ = (n_cols + group_ - 1) / group_;
  find_outliers(x, numerics.outliers);
  grow(outlier_values_, n * outliers_.size());
  for (size_t t = 0; t < n; ++t)
    for (size_t i = 0; i < outliers_.size(); ++i)
      outlier_values_[t * outliers_.size() + i] = x[t * n_cols + outliers_[i]];
  values_ = x;
  if (!scheme && outliers_.empty()) return;

  if (as_codes)
    grow(codes_, n * n_cols);
  else
    grow(rounded_, n * n_cols);
  grow(scales_, n * n_groups_);
  rows_.resize(static_cast<size_t>(pool.size()));
  for (auto& row : rows_) grow(row, n_cols);
  pool.parallel_for((n + kTokensAnItem - 1) / kTokensAnItem, [&](size_t item, int worker) {
    float* row = rows_[static_cast<size_t>(worker)].data();
    const size_t last = std::min(n, (item + 1) * kTokensAnItem);
    for (size_t t = item * kTokensAnItem; t < last; ++t) {
      const float* token = x + t * n_cols;
      if (!outliers_.empty()) {
        std::copy_n(token, n_cols, row);
        for (const uint32_t c : outliers_) row[c] = 0;
        token = row;
      }
      if (scheme)
        round_token(token, t, *scheme, static_magnitude, as_codes);
      else
        std::copy_n(token, n_cols, rounded_.data() + t * n_cols);
    }
  });
  values_ = rounded_.data();
}

// Columns whose magnitude exceeds the threshold at any token of the batch. What is not finite is no outlier: it must
// reach a scale.
void QuantizedInputs::find_outliers(const float* x, float threshold) {
  outliers_.clear();
  if (threshold <= 0) return;
  maxima_.assign(n_cols_, 0.0f);
  for (size_t t = 0; t < n_tokens_; ++t)
    for (size_t c = 0; c < n_cols_; ++c) maxima_[c] = std::max(maxima_[c], std::abs(x[t * n_cols_ + c]));
  for (size_t c = 0; c < n_cols_; ++c)
    if (maxima_[c] > threshold && std::isfinite(maxima_[c])) outliers_.push_back(static_cast<uint32_t>(c));
}

void QuantizedInputs::round_token(const float* x, size_t token, const Scheme& scheme, float static_magnitude,
                                  bool as_codes) {
  const Kernels& k = kernels();
  const NumberFormat& format = *scheme.format;
  for (size_t g = 0; g < n_groups_; ++g) {
    const size_t at = g * group_, n = std::min(group_, n_cols_ - at);
    const float amax = k.max_magnitude(x + at, n);
    const bool is_static = scheme.granularity == Granularity::kTensor;
    float scale = scheme.scale_of(is_static ? static_magnitude : amax);
    if (std::isnan(amax)) scale = std::numeric_limits<float>::quiet_NaN();  // so that the logits tell
    scales_[token * n_groups_ + g] = scale;
    int8_t* codes = codes_.data() + token * n_cols_ + at;
    float* values = rounded_.data() + token * n_cols_ + at;
    if (as_codes)
      scale == 0 ? void(std::fill_n(codes, n, int8_t{0})) : k.encode_i8(x + at, scale, format.largest(), codes, n);
    else
      scale == 0 ? void(std::fill_n(values, n, 0.0f)) : k.round_to_rule(x + at, scale, format.rule, values, n);
  }
}

size_t QuantizedInputs::size_bytes() const {
  size_t floats = rounded_.size() + scales_.size() + outlier_values_.size() + maxima_.size();
  for (const auto& row : rows_) floats += row.size();
  return floats * sizeof(float) + codes_.size() + outliers_.size() * sizeof(uint32_t);
}

}  // namespace tsubu
