#include "pipeline/finite_weights.h"

#include <cmath>

#include "base/error.h"
#include "kernel/kernels.h"

namespace tsubu {

void check_finite_weights(const float* x, uint64_t n_rows, uint64_t n_cols, const std::string& name, uint64_t first_row) {
  const uint64_t n = n_rows * n_cols;
  if (std::isfinite(kernels().max_magnitude(x, n))) return;
  for (uint64_t i = 0; i < n; ++i)
    if (!std::isfinite(x[i]))
      fail(ExitCode::kBadInput,
           "tensor {}: row {}, column {}: expected a finite weight, found {} (the checkpoint is damaged; get it again)",
           name, first_row + i / n_cols, i % n_cols, x[i]);
}

}  // namespace tsubu
