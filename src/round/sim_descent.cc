// With r = w - ŵ and g = r H, a change δ of the values changes the form by δ H δᵀ - 2 g δᵀ.
#include "round/sim_descent.h"

#include <cmath>

#include "kernel/kernels.h"

namespace tsubu {
namespace {

constexpr float kScaleFactors[] = {0.94f, 0.97f, 0.985f, 1.015f, 1.03f, 1.06f};

float clamped_entry(const float* table, int n, int entry, float x) {  // tables stay ascending
  if (entry > 0) x = std::max(x, table[entry - 1]);
  if (entry + 1 < n) x = std::min(x, table[entry + 1]);
  return x;
}

}  // namespace

void SimDescent::codes(const SimGrid& grid, const Span& s, size_t begin, size_t end) const {
  const size_t n = shape_.n_cols;
  for (size_t j = begin; j < end; ++j) {
    const float* h = c_->h() + (s.col + j) * n + s.col;
    const float level = grid.level(s.value[j] + s.g[j] / h[j]), value = grid.value(level), step = value - s.value[j];
    if (step == 0 || step * (step * h[j] - 2 * s.g[j]) >= 0) continue;
    s.level[j] = level;
    s.value[j] = value;
    kernels().axpy(-step, h, s.g, s.n);
  }
}

// Another scale with its codes rounded anew, all at once, where that lowers the form.
bool SimDescent::other_scale(SimRows& rows, size_t row, size_t g, const Span& s, float* change, float* best) const {
  const size_t n = shape_.n_cols, begin = shape_.begin(g) - s.col, len = shape_.length(g);
  const SimGroup old = rows.group(row, g);
  SimGroup chosen = old;
  float least = 0;
  for (float factor : kScaleFactors) {
    const SimGroup other = {stored_scale(f_, old.scale * factor, tensor_scale_), old.zero};
    if (other.scale == old.scale || other.scale == 0) continue;
    const SimGrid grid(f_, other);
    float energy = 0;
    for (size_t j = 0; j < len; ++j) {
      const float* h = c_->h() + (s.col + begin + j) * n + s.col + begin;
      const float value = grid.value(grid.level(s.value[begin + j] + s.g[begin + j] / h[j]));
      change[j] = value - s.value[begin + j];
      energy += change[j] * (2 * kernels().dot(h, change, j) + change[j] * h[j] - 2 * s.g[begin + j]);
    }
    if (energy >= least) continue;
    least = energy;
    chosen = other;
    std::copy(change, change + len, best);
  }
  if (least >= 0) return false;
  rows.group(row, g) = chosen;
  const SimGrid grid(f_, chosen);
  for (size_t j = 0; j < len; ++j) {
    const float wanted = s.value[begin + j] + best[j];
    s.level[begin + j] = grid.level(wanted);
    s.value[begin + j] = grid.value(s.level[begin + j]);
  }
  for (size_t j = 0; j < len; ++j)
    if (best[j] != 0) kernels().axpy(-best[j], c_->h() + (s.col + begin + j) * n + s.col, s.g, s.n);
  return true;
}

// Scale, and a zero that is a half, by least squares for the codes as they are.
void SimDescent::group_scale(SimRows& rows, size_t row, size_t g, const Span& s, float* direction,
                             float* change) const {
  const size_t n = shape_.n_cols, begin = shape_.begin(g) - s.col, len = shape_.length(g);
  for (bool of_zero : {false, true}) {
    if (of_zero && f_.zero != SimZero::kHalf) break;
    SimGroup group = rows.group(row, g);
    if (group.scale == 0) return;
    std::fill(change, change + s.n, 0.0f);
    for (size_t j = 0; j < len; ++j) {
      direction[j] = of_zero ? -group.scale : s.level[begin + j] - group.zero;
      kernels().axpy(direction[j], c_->h() + (s.col + begin + j) * n + s.col, change, s.n);
    }
    const float curve = kernels().dot(direction, change + begin, len),
                slope = kernels().dot(direction, s.g + begin, len);
    if (!(curve > 0)) continue;
    const SimGroup old = group;
    if (of_zero)
      group.zero = stored_half(group.zero + slope / curve);
    else
      group.scale = stored_scale(f_, group.scale + slope / curve, tensor_scale_);
    const float step = of_zero ? group.zero - old.zero : group.scale - old.scale;
    if (step == 0 || group.scale == 0 || step * (step * curve - 2 * slope) >= 0) continue;
    rows.group(row, g) = group;
    kernels().axpy(-step, change, s.g, s.n);
    const SimGrid grid(f_, group);
    for (size_t j = begin; j < begin + len; ++j) s.value[j] = grid.value(s.level[j]);
  }
}

void SimDescent::group_table(SimRows& rows, size_t row, size_t g, const Span& s, float* direction) const {
  const size_t n = shape_.n_cols, begin = shape_.begin(g) - s.col, len = shape_.length(g);
  float* table = rows.table(row, g);
  for (int entry = 0; entry < f_.n_levels(); ++entry) {
    std::fill(direction, direction + s.n, 0.0f);
    float slope = 0, curve = 0;
    for (size_t j = begin; j < begin + len; ++j)
      if (s.level[j] == table[entry]) {
        slope += s.g[j];
        kernels().axpy(1.0f, c_->h() + (s.col + j) * n + s.col, direction, s.n);
      }
    for (size_t j = begin; j < begin + len; ++j)
      if (s.level[j] == table[entry]) curve += direction[j];
    if (!(curve > 0)) continue;
    const float old = table[entry];
    const float value = stored_half(clamped_entry(table, f_.n_levels(), entry, old + slope / curve)),
                step = value - old;
    if (step == 0 || step * (step * curve - 2 * slope) >= 0) continue;
    kernels().axpy(-step, direction, s.g, s.n);
    for (size_t j = begin; j < begin + len; ++j)
      if (s.level[j] == old) s.level[j] = s.value[j] = value;
    for (int other = 0; other < f_.n_levels(); ++other)
      if (table[other] == old) table[other] = value;
  }
}

// The same for groups that are longer than a span: scale (entry -1), zero (-2) or one table entry, of all rows at once.
void SimDescent::long_groups(SimRows& rows, size_t g, int entry, std::vector<float>& product,
                             std::vector<float>& direction) const {
  const size_t n = shape_.n_cols, begin = shape_.begin(g), len = shape_.length(g);
  direction.assign(rows.n_rows * n, 0.0f);
  product.resize(rows.n_rows * n);
  for (size_t row = 0; row < rows.n_rows; ++row)
    for (size_t j = begin; j < begin + len; ++j) {
      const float level = rows.levels(row)[j];
      const SimGroup group = rows.group(row, g);
      direction[row * n + j] = entry >= 0    ? (level == rows.table(row, g)[entry] ? 1.0f : 0.0f)
                               : entry == -1 ? level - group.zero
                                             : -group.scale;
    }
  kernels().gemm_nt(c_->h() + begin, n, direction.data() + begin, n, product.data(), n, n, rows.n_rows, len);
  rows.load_residual(0, n);
  for (size_t row = 0; row < rows.n_rows; ++row) {
    const float* p = product.data() + row * n;
    const float curve = kernels().dot(direction.data() + row * n + begin, p + begin, len);
    const float slope = kernels().dot(rows.residual.data() + row * n, p, n);
    if (!(curve > 0)) continue;
    SimGroup group = rows.group(row, g);
    float* at = entry >= 0 ? rows.table(row, g) + entry : entry == -1 ? &group.scale : &group.zero;
    const float old = *at, wanted = old + slope / curve;
    float value = entry == -1 ? stored_scale(f_, wanted, tensor_scale_) : stored_half(wanted);
    if (entry >= 0) value = stored_half(clamped_entry(rows.table(row, g), f_.n_levels(), entry, wanted));
    const float step = value - old;
    if (step == 0 || (entry == -1 && value == 0) || step * (step * curve - 2 * slope) >= 0) continue;
    float* level = rows.levels(row);
    float* out = rows.out + row * n;
    if (entry >= 0) {
      for (size_t j = begin; j < begin + len; ++j)
        if (level[j] == old) level[j] = out[j] = value;
      for (int other = 0; other < f_.n_levels(); ++other)
        if (rows.table(row, g)[other] == old) rows.table(row, g)[other] = value;
      continue;
    }
    *at = value;
    rows.group(row, g) = group;
    const SimGrid grid(f_, group);
    for (size_t j = begin; j < begin + len; ++j) out[j] = grid.value(level[j]);
  }
}

void SimDescent::pass(SimRows& rows, std::vector<float>& product, std::vector<float>& direction,
                      std::vector<float>& change) const {
  const size_t n = shape_.n_cols, span = shape_.span;
  product.resize(std::max(product.size(), rows.n_rows * span));
  direction.resize(std::max(direction.size(), span));
  change.resize(2 * span);
  rows.load_residual(0, n);
  for (size_t col = 0; col < n; col += span) {
    const size_t n_cols = std::min(span, n - col);
    kernels().gemm_nt(c_->h() + col * n, n, rows.residual.data(), n, product.data(), span, n_cols, rows.n_rows, n);
    for (size_t row = 0; row < rows.n_rows; ++row) {
      const Span s = {rows.levels(row) + col, rows.out + row * n + col, product.data() + row * span, col, n_cols};
      for (size_t j = 0; j < n_cols;) {
        const size_t g = shape_.group_of(col + j), end = std::min(shape_.end(g) - col, n_cols);
        codes(rows.grid(row, g), s, j, end);
        if (shape_.groups_fit_spans() && f_.has_tables())
          group_table(rows, row, g, s, direction.data());
        else if (shape_.groups_fit_spans() && !fixed_scales_) {
          other_scale(rows, row, g, s, change.data(), change.data() + span);
          group_scale(rows, row, g, s, direction.data(), change.data());
        }
        j = end;
      }
    }
    rows.load_residual(col, col + n_cols);
  }
  if (shape_.groups_fit_spans() || fixed_scales_) return;
  for (size_t g = 0; g < shape_.n_groups; ++g) {
    if (f_.has_tables()) {
      for (int entry = 0; f_.code_bits <= 4 && entry < f_.n_levels(); ++entry)
        long_groups(rows, g, entry, product, direction);
      continue;
    }
    long_groups(rows, g, -1, product, direction);
    if (f_.zero == SimZero::kHalf) long_groups(rows, g, -2, product, direction);
  }
}

}  // namespace tsubu
