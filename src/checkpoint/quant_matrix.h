// A quantized matrix of a checkpoint in the one form that every layout has, whatever its files look like:
//   w[n][k] = round((level[code[n][k]] - zero[n][g]) · scale[n][g]), g the group of column k
// for the logical weight (n_rows, n_cols) of y = x Wᵀ. `round` is to the float type in which the layout's clients hold
// the weights that they unpack (that of the scales, or of the model), so the values are the clients' values to the bit.
// Rows are unpacked on demand: nothing of the matrix is kept in memory but what a layout needs to find its way.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "codec/type_info.h"
#include "container/safetensors.h"

namespace tsubu {

class QuantMatrix {
 public:
  virtual ~QuantMatrix() = default;
  QuantMatrix(const QuantMatrix&) = delete;
  QuantMatrix& operator=(const QuantMatrix&) = delete;

  uint64_t n_rows() const { return n_rows_; }
  uint64_t n_cols() const { return n_cols_; }
  uint64_t n_groups() const { return n_groups_; }  // of a row
  uint64_t group_columns() const { return group_columns_; }
  // Group of each column where groups are no runs of group_columns() (activation order); else empty.
  const std::vector<uint32_t>& group_of_column() const { return group_of_column_; }
  int code_bits() const { return code_bits_; }
  const std::array<float, 256>& levels() const { return levels_; }  // by code, 2^code_bits of them
  bool has_zeros() const { return has_zeros_; }
  const TypeInfo& value_type() const { return *value_type_; }  // F32, F16 or BF16
  const std::string& kind() const { return kind_; }             // "int4 group=128 asym": for people
  const std::vector<const SafeTensor*>& parts() const { return parts_; }
  uint64_t size_bytes() const;  // of all parts

  // codes: (n, n_cols); scales, zeros: (n, n_groups). zeros are in levels; 0 where there are none. Thread-safe.
  virtual void read_codes(uint64_t first, uint64_t n, uint8_t* codes) const = 0;
  virtual void read_scales(uint64_t first, uint64_t n, float* scales, float* zeros) const = 0;
  // out: (n, n_cols).
  void read_rows(uint64_t first, uint64_t n, float* out) const;

 protected:
  QuantMatrix() = default;
  void set_shape(uint64_t n_rows, uint64_t n_cols, uint64_t group_columns);
  uint64_t group_at(uint64_t column) const {
    return group_of_column_.empty() ? column / group_columns_ : group_of_column_[column];
  }

  uint64_t n_rows_ = 0, n_cols_ = 0, n_groups_ = 1, group_columns_ = 1;
  std::vector<uint32_t> group_of_column_;
  int code_bits_ = 8;
  std::array<float, 256> levels_{};
  bool has_zeros_ = false;
  float post_scale_ = 1;             // a last factor, applied to the product (bitsandbytes INT8: 1/127)
  std::vector<float> column_scale_;  // of each input, when there is one (ModelOpt's pre_quant_scale)
  const TypeInfo* value_type_ = nullptr;
  std::string kind_;
  std::vector<const SafeTensor*> parts_;
};

}  // namespace tsubu
