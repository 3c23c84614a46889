// Some rows of a matrix while they are rounded to a simulated format: values, levels, scales or tables.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "round/sim_scales.h"

namespace tsubu {

// How the columns of a row fall into groups, and into spans that are worked on together (whole groups where they fit).
struct SimShape {
  size_t n_cols, group, n_groups, span;

  SimShape(const SimFormat& f, size_t n) : n_cols(n), group(f.group_columns(n)), n_groups(f.groups_per_row(n)) {
    constexpr size_t kSpanColumns = 256;
    span = group <= kSpanColumns ? kSpanColumns / group * group : kSpanColumns;
  }
  size_t begin(size_t g) const { return g * group; }
  size_t end(size_t g) const { return std::min(n_cols, (g + 1) * group); }
  size_t length(size_t g) const { return end(g) - begin(g); }
  size_t group_of(size_t column) const { return column / group; }
  bool groups_fit_spans() const { return group <= span; }
};

class SimRows {
 public:
  SimRows(const SimFormat& f, size_t n_cols, size_t max_rows)
      : residual(max_rows * n_cols),
        f_(f),
        n_(n_cols),
        n_groups_(f.groups_per_row(n_cols)),
        table_len_(f.has_tables() ? static_cast<size_t>(f.n_levels()) : 0),
        levels_(max_rows * n_cols),
        groups_(max_rows * n_groups_),
        tables_(max_rows * n_groups_ * table_len_) {}

  size_t n_rows = 0;
  const float* w = nullptr;     // (n_rows, n_cols)
  float* out = nullptr;         // values, the same shape
  std::vector<float> residual;  // w - out where it was loaded

  size_t n_cols() const { return n_; }
  float* levels(size_t row) { return levels_.data() + row * n_; }
  SimGroup& group(size_t row, size_t g) { return groups_[row * n_groups_ + g]; }
  float* table(size_t row, size_t g) { return tables_.data() + (row * n_groups_ + g) * table_len_; }
  SimGrid grid(size_t row, size_t g) {
    return f_.has_tables() ? SimGrid(std::span<const float>(table(row, g), table_len_)) : SimGrid(f_, group(row, g));
  }
  void load_residual(size_t begin, size_t end) {
    for (size_t r = 0; r < n_rows; ++r)
      for (size_t j = r * n_ + begin; j < r * n_ + end; ++j) residual[j] = w[j] - out[j];
  }

 private:
  const SimFormat& f_;
  size_t n_, n_groups_, table_len_;
  std::vector<float> levels_;
  std::vector<SimGroup> groups_;
  std::vector<float> tables_;
};

}  // namespace tsubu
