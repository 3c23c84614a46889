#include "checkpoint/quant_rows.h"

#include <vector>

#include "base/error.h"

namespace tsubu {
namespace {

class QuantRows : public QuantMatrix {
 public:
  QuantRows(std::shared_ptr<const QuantMatrix> whole, uint64_t first, uint64_t step, uint64_t n_rows)
      : whole_(std::move(whole)), first_(first), step_(step) {
    const QuantMatrix& m = *whole_;
    set_shape(n_rows, m.n_cols(), m.group_columns());
    group_of_column_ = m.group_of_column();
    code_bits_ = m.code_bits();
    levels_ = m.levels();
    has_zeros_ = m.has_zeros();
    value_type_ = &m.value_type();
    kind_ = m.kind();
    // Of the bytes under [first - phase, … + n_rows · step) the phase-th part stands for this matrix.
    const uint64_t phase = first % step, range = first - phase;
    slices_.reserve(m.parts().size());
    for (const SafeTensor* part : m.parts()) {
      SafeTensor& slice = slices_.emplace_back(*part);
      const uint64_t row_bytes = part->data.size() / m.n_rows();
      slice.data = part->data.subspan((range + phase * n_rows) * row_bytes, n_rows * row_bytes);
    }
    for (const SafeTensor& slice : slices_) parts_.push_back(&slice);
  }

  void read_codes(uint64_t first, uint64_t n, uint8_t* codes) const override {
    if (step_ == 1) return whole_->read_codes(first_ + first, n, codes);
    for (uint64_t i = 0; i < n; ++i) whole_->read_codes(first_ + (first + i) * step_, 1, codes + i * n_cols_);
  }

  void read_scales(uint64_t first, uint64_t n, float* scales, float* zeros) const override {
    if (step_ == 1) return whole_->read_scales(first_ + first, n, scales, zeros);
    for (uint64_t i = 0; i < n; ++i)
      whole_->read_scales(first_ + (first + i) * step_, 1, scales + i * n_groups_, zeros + i * n_groups_);
  }

 private:
  std::shared_ptr<const QuantMatrix> whole_;
  uint64_t first_, step_;
  std::vector<SafeTensor> slices_;
};

}  // namespace

std::shared_ptr<const QuantMatrix> quant_rows(std::shared_ptr<const QuantMatrix> whole, uint64_t first, uint64_t step,
                                              uint64_t n_rows) {
  if (step == 0 || n_rows == 0 || first >= whole->n_rows() || (whole->n_rows() - 1 - first) / step < n_rows - 1)
    fail(ExitCode::kUsage, "rows {}, {}, … ({} of them) are not in a matrix of {}", first, first + step, n_rows, whole->n_rows());
  return std::make_shared<QuantRows>(std::move(whole), first, step, n_rows);
}

}  // namespace tsubu
