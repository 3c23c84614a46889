// Decoding of quantized matrices from codes, scales and zeros; see quant_matrix.h.
#include "checkpoint/quant_matrix.h"

#include <algorithm>
#include <cmath>

#include "base/half.h"

namespace tsubu {
namespace {

enum class Rounding { kF32, kF16, kBf16 };

template <Rounding R>
float rounded(float x) {
  if constexpr (R == Rounding::kF16) return f16_to_f32(f32_to_f16(x));
  if constexpr (R == Rounding::kBf16) return bf16_to_f32(f32_to_bf16(x));
  return x;
}

struct RowView {
  const uint8_t* codes;
  const float *scales, *zeros;
  float* out;
};

template <Rounding R>
float value_of(float level, float zero, float scale, float post) {
  const float product = (level - zero) * scale;
  return rounded<R>(post == 1 ? product : product * post);
}

// Columns [begin, end) share a scale. Of few levels the values are tabulated first.
template <Rounding R>
void decode_run(const RowView& row, uint64_t begin, uint64_t end, uint64_t g, const std::array<float, 256>& levels,
                int n_levels, float post) {
  const float scale = row.scales[g], zero = row.zeros[g];
  if (n_levels <= 16 && end - begin >= 16) {
    float table[16];
    for (int c = 0; c < n_levels; ++c) table[c] = value_of<R>(levels[static_cast<size_t>(c)], zero, scale, post);
    for (uint64_t k = begin; k < end; ++k) row.out[k] = table[row.codes[k] & 15];
    return;
  }
  for (uint64_t k = begin; k < end; ++k) row.out[k] = value_of<R>(levels[row.codes[k]], zero, scale, post);
}

}  // namespace

uint64_t QuantMatrix::size_bytes() const {
  uint64_t total = 0;
  for (const SafeTensor* part : parts_) total += part->data.size();
  return total;
}

void QuantMatrix::set_shape(uint64_t n_rows, uint64_t n_cols, uint64_t group_columns) {
  n_rows_ = n_rows;
  n_cols_ = n_cols;
  group_columns_ = std::min(group_columns, n_cols);
  n_groups_ = (n_cols + group_columns_ - 1) / group_columns_;
}

void QuantMatrix::read_rows(uint64_t first, uint64_t n, float* out) const {
  std::vector<uint8_t> codes(n * n_cols_);
  std::vector<float> scales(n * n_groups_), zeros(n * n_groups_);
  read_codes(first, n, codes.data());
  read_scales(first, n, scales.data(), zeros.data());
  const int n_levels = 1 << code_bits_;
  const auto decode = [&](auto rounding) {
    constexpr Rounding kRounding = decltype(rounding)::value;
    for (uint64_t r = 0; r < n; ++r) {
      const RowView row{codes.data() + r * n_cols_, scales.data() + r * n_groups_, zeros.data() + r * n_groups_,
                        out + r * n_cols_};
      if (group_of_column_.empty()) {
        for (uint64_t g = 0; g < n_groups_; ++g)
          decode_run<kRounding>(row, g * group_columns_, std::min(n_cols_, (g + 1) * group_columns_), g, levels_,
                                n_levels, post_scale_);
      } else {
        for (uint64_t k = 0; k < n_cols_; ++k)
          decode_run<kRounding>(row, k, k + 1, group_of_column_[k], levels_, n_levels, post_scale_);
      }
      for (uint64_t k = 0; k < column_scale_.size(); ++k) row.out[k] *= column_scale_[k];
    }
  };
  if (value_type_->name == "F16")
    decode(std::integral_constant<Rounding, Rounding::kF16>());
  else if (value_type_->name == "BF16")
    decode(std::integral_constant<Rounding, Rounding::kBf16>());
  else
    decode(std::integral_constant<Rounding, Rounding::kF32>());
}

}  // namespace tsubu
