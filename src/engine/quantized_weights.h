// The weights of a linear in a scheme: one byte a code whatever the format, and f32 scales, made once from the source.
#pragma once

#include <cstdint>
#include <vector>

#include "base/threads.h"
#include "codec/scheme.h"
#include "model/model.h"

namespace tsubu {

class QuantizedWeights {
 public:
  // Throws Error(kNumeric) when a weight is not finite.
  QuantizedWeights(const ModelTensor& source, const Scheme& scheme, ThreadPool& pool);
  size_t n_rows() const { return n_rows_; }
  size_t n_cols() const { return n_cols_; }
  const Scheme& scheme() const { return scheme_; }
  // Row-major; of integers the codes themselves.
  const int8_t* codes(size_t row) const { return reinterpret_cast<const int8_t*>(codes_.data()) + row * n_cols_; }
  // Columns [g · columns_per_scale, …) of the rows from `row` on: one scale a row, side by side.
  const float* scales(size_t group, size_t row) const { return scales_.data() + group * n_rows_ + row; }
  size_t columns_per_scale() const { return group_; }
  // Rows [first, first + n) as floats, (n, n_cols): value · scale, one rounding.
  void decode(size_t first, size_t n, float* out) const;
  size_t size_bytes() const { return codes_.size() + scales_.size() * sizeof(float); }

 private:
  void find_scales(const ModelTensor& source, ThreadPool& pool);
  void encode(const ModelTensor& source, ThreadPool& pool);

  Scheme scheme_;
  size_t n_rows_, n_cols_, group_;
  std::vector<uint8_t> codes_;
  std::vector<float> scales_;  // (groups, rows); those of a tensor or block are repeated
};

}  // namespace tsubu
