// Rows of a quantized matrix as a matrix of their own: one expert's gate in gpt-oss's tensor of all experts, say, whose
// rows are those of gate and up in turn.
#pragma once

#include <memory>

#include "checkpoint/quant_matrix.h"

namespace tsubu {

// Rows first, first + step, … of `whole`, n_rows of them. The bytes of the rows between count for those who take them:
// 1 / step of the range is this matrix's. Throws Error(kUsage) when they are not in `whole`.
std::shared_ptr<const QuantMatrix> quant_rows(std::shared_ptr<const QuantMatrix> whole, uint64_t first, uint64_t step,
                                              uint64_t n_rows);

}  // namespace tsubu
