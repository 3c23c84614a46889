#include "pipeline/fp8_blocks.h"

#include <algorithm>
#include <cmath>

#include "base/half.h"
#include "codec/number_format.h"

namespace tsubu {
namespace {

constexpr uint64_t kBlock = 128;
constexpr float kE4m3Largest = 448;

}  // namespace

void round_fp8_blocks(const std::vector<float>& w, LayoutMatrix& q, ThreadPool& pool) {
  const uint64_t rows = q.n_rows, n = q.n_cols;
  q.code_bits = 8;
  q.group_columns = std::min(kBlock, n);
  q.row_step = kBlock;
  q.codes.resize(w.size());
  const NumberFormat& e4m3 = *find_number_format("fp8_e4m3");
  const uint64_t groups = q.n_groups(), steps = (rows + kBlock - 1) / kBlock;
  q.scales.resize(steps * groups);
  pool.parallel_for(steps, [&](size_t step, int) {
    const uint64_t first = step * kBlock, last = std::min(rows, first + kBlock);
    for (uint64_t g = 0; g < groups; ++g) {
      const uint64_t begin = g * q.group_columns, end = std::min(n, begin + q.group_columns);
      float absmax = 0;
      for (uint64_t r = first; r < last; ++r)
        for (uint64_t k = begin; k < end; ++k) absmax = std::max(absmax, std::fabs(w[r * n + k]));
      float scale = absmax > 0 ? absmax / kE4m3Largest : 1;
      if (q.scale_type == SafeDtype::kF16) scale = f16_to_f32(f32_to_f16(scale));
      if (q.scale_type == SafeDtype::kBF16) scale = bf16_to_f32(f32_to_bf16(scale));
      if (scale == 0) scale = 1;
      q.scales[step * groups + g] = scale;
      for (uint64_t r = first; r < last; ++r)
        for (uint64_t k = begin; k < end; ++k) q.codes[r * n + k] = e4m3.encode(w[r * n + k] / scale);
    }
  });
}

}  // namespace tsubu
