#include "pipeline/layout_codes.h"

#include <algorithm>
#include <cmath>

#include "base/half.h"

namespace tsubu {

LayoutMatrix empty_matrix(uint64_t rows, uint64_t cols, const LayoutRecipe& recipe) {
  LayoutMatrix q;
  q.n_rows = rows;
  q.n_cols = cols;
  q.scale_type = recipe.scale_type();
  q.model_dtype = recipe.model_dtype;
  return q;
}

std::optional<LayoutMatrix> carried_codes(const ModelTensor& t, const LayoutRecipe& recipe) {
  const QuantMatrix* m = t.quantized();
  const SimFormat format = recipe.format();
  if (!m || recipe.scheme->is_block() || format.family != "int" || m->code_bits() != format.code_bits ||
      !m->group_of_column().empty() || m->group_columns() != format.group_columns(m->n_cols()) ||
      format.granularity == SimGranularity::kTensor)
    return {};
  const int half = 1 << (format.code_bits - 1);
  const auto& levels = m->levels();
  for (int c = 0; c < 1 << format.code_bits; ++c)
    if (levels[static_cast<size_t>(c)] != std::nearbyint(levels[static_cast<size_t>(c)])) return {};  // floats
  const int lowest = static_cast<int>(*std::min_element(levels.begin(), levels.begin() + (1 << format.code_bits)));
  const int shift = -half - lowest;  // of a source that counts from 0
  LayoutMatrix q = empty_matrix(m->n_rows(), m->n_cols(), recipe);
  q.code_bits = format.code_bits;
  q.group_columns = m->group_columns();
  q.codes.resize(m->n_rows() * m->n_cols());
  q.scales.resize(m->n_rows() * m->n_groups());
  std::vector<float> zeros(q.scales.size());
  m->read_codes(0, m->n_rows(), q.codes.data());
  m->read_scales(0, m->n_rows(), q.scales.data(), zeros.data());
  for (uint8_t& c : q.codes) c = static_cast<uint8_t>(static_cast<int8_t>(static_cast<int>(levels[c]) + shift));
  const bool asymmetric = format.zero != SimZero::kNone;
  for (size_t i = 0; i < zeros.size(); ++i) {
    const int zero = static_cast<int>(zeros[i]) + shift;
    if (!std::isfinite(q.scales[i]) || zero < -half || zero >= half || (!asymmetric && zero != 0)) return {};
    if (asymmetric) q.zeros.push_back(static_cast<int8_t>(zero));
    const float stored = q.scale_type == SafeDtype::kF16    ? f16_to_f32(f32_to_f16(q.scales[i]))
                         : q.scale_type == SafeDtype::kBF16 ? bf16_to_f32(f32_to_bf16(q.scales[i]))
                                                            : q.scales[i];
    if (stored != q.scales[i]) q.scale_type = q.scale_type == SafeDtype::kBF16 ? SafeDtype::kF16 : SafeDtype::kF32;
  }
  if (recipe.scheme->method == "bitsandbytes") return {};  // its scales are magnitudes, divided by 127
  for (float s : q.scales)
    if (q.scale_type == SafeDtype::kF16 && f16_to_f32(f32_to_f16(s)) != s) q.scale_type = SafeDtype::kF32;
  return q;
}

std::string method_words(const SimMethod& method) {
  const std::string start = method.start == SimStart::kNearest     ? "nearest"
                            : method.start == SimStart::kHqq       ? "hqq"
                            : method.start == SimStart::kGptq      ? "gptq"
                            : method.start == SimStart::kGptqPlain ? "gptq-plain"
                                                                   : "search";
  return method.descent_passes > 0 ? start + "+refine" : start;
}

double relative_error(const std::vector<float>& w, const QuantMatrix& written, ThreadPool& pool) {
  constexpr uint64_t kReadRows = 64;
  const uint64_t rows = written.n_rows(), n = written.n_cols();
  std::vector<double> error((rows + kReadRows - 1) / kReadRows), reference(error.size());
  pool.parallel_for(error.size(), [&](size_t item, int) {
    const uint64_t first = item * kReadRows, count = std::min(kReadRows, rows - first);
    std::vector<float> values(count * n);
    written.read_rows(first, count, values.data());
    for (uint64_t i = 0; i < count * n; ++i) {
      const auto v = static_cast<double>(w[first * n + i]), e = static_cast<double>(values[i]) - v;
      error[item] += e * e;
      reference[item] += v * v;
    }
  });
  double e = 0, r = 0;
  for (size_t i = 0; i < error.size(); ++i) {
    e += error[i];
    r += reference[i];
  }
  return r > 0 ? std::sqrt(e / r) : 0;
}

}  // namespace tsubu
