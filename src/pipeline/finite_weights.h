// What every writer of weights refuses.
#pragma once

#include <cstdint>
#include <string>

namespace tsubu {

// x: rows [first_row, first_row + n_rows) of tensor `name`. Throws Error(kBadInput) with the place of the first weight that is
// not finite.
void check_finite_weights(const float* x, uint64_t n_rows, uint64_t n_cols, const std::string& name, uint64_t first_row = 0);

}  // namespace tsubu
