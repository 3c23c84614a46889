#include "model/low_rank.h"

#include "kernel/kernels.h"

namespace tsubu {

void LowRank::add_rows(uint64_t first, uint64_t n, float* out) const {
  const auto axpy = kernels().axpy;
  for (uint64_t i = 0; i < n; ++i) {
    const float* row = b.data() + (first + i) * rank;
    for (size_t k = 0; k < rank; ++k)
      if (row[k] != 0) axpy(scale * row[k], a.data() + k * n_cols, out + i * n_cols, n_cols);
  }
}

}  // namespace tsubu
