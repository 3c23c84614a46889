// The input of linears in a scheme: rows of codes and scales for integer products, or rows of floats rounded as the
// scheme says, and the columns that stay in float.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/threads.h"
#include "engine/numerics.h"

namespace tsubu {

class QuantizedInputs {
 public:
  // x is (n, n_cols). static_magnitude: of a tensor scheme, else unused. as_codes: integers for kernels().gemm_i8, else
  // floats. Without a scheme the values are x itself, apart from outlier columns.
  void assign(const float* x, size_t n, size_t n_cols, const Numerics& numerics, float static_magnitude, bool as_codes,
              ThreadPool& pool);

  size_t n_tokens() const { return n_tokens_; }
  size_t n_cols() const { return n_cols_; }
  const float* values() const { return values_; }        // (n, n_cols), when not as codes
  const int8_t* codes() const { return codes_.data(); }  // (n, n_cols), when as codes
  // Of columns [group · columns_per_scale, …) of a token.
  float scale(size_t token, size_t group) const { return scales_[token * n_groups_ + group]; }
  size_t columns_per_scale() const { return group_; }
  // Columns that hold 0 above and their values here, (n, number of them).
  std::span<const uint32_t> outlier_columns() const { return outliers_; }
  const float* outlier_values() const { return outlier_values_.data(); }
  size_t size_bytes() const;

 private:
  void find_outliers(const float* x, float threshold);
  void round_token(const float* x, size_t token, const Scheme& scheme, float static_magnitude, bool as_codes);

  size_t n_tokens_ = 0, n_cols_ = 0, group_ = 0, n_groups_ = 0;
  const float* values_ = nullptr;
  std::vector<float> rounded_, scales_, outlier_values_, maxima_;
  std::vector<int8_t> codes_;
  std::vector<uint32_t> outliers_;
  std::vector<std::vector<float>> rows_;  // one token without its outliers, for each worker
};

}  // namespace tsubu
