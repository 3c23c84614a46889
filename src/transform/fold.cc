#include "transform/fold.h"

#include <algorithm>

namespace tsubu {

std::vector<LinearGroup> foldable_groups(const Graph& graph) {
  std::vector<LinearGroup> groups = linear_groups(graph);
  std::erase_if(groups, [](const LinearGroup& g) { return !g.foldable || g.layer < 0; });
  return groups;
}

void tie_channels(const LinearGroup& group, Tie how, std::span<double> values) {
  if (group.producer_rows.empty()) return;
  const size_t n_rows = *std::max_element(group.producer_rows.begin(), group.producer_rows.end()) + size_t{1};
  std::vector<double> of_row(n_rows), n(n_rows);
  for (size_t c = 0; c < values.size(); ++c) {
    double& v = of_row[group.producer_rows[c]];
    v = how == Tie::kMax ? std::max(v, values[c]) : v + values[c];
    n[group.producer_rows[c]] += 1;
  }
  for (size_t c = 0; c < values.size(); ++c) {
    const uint32_t row = group.producer_rows[c];
    values[c] = how == Tie::kMax ? of_row[row] : of_row[row] / n[row];
  }
}

void fold_scales(EditableModel& model, const LinearGroup& group, std::span<const double> scales, ThreadPool& pool) {
  for (const std::string& linear : group.linears)
    model.edit_rows(linear, pool, [&](uint64_t, std::span<double> row) {
      for (size_t c = 0; c < row.size(); ++c) row[c] *= scales[c];
    });
  if (!group.norm_weight.empty()) {
    for (const std::string* name : {&group.norm_weight, &group.norm_bias})
      if (!name->empty())
        model.edit_rows(*name, pool, [&](uint64_t, std::span<double> values) {
          for (size_t c = 0; c < values.size(); ++c) values[c] /= scales[c];
        });
    return;
  }
  std::vector<double> of_row(model.tensor(group.producer_linear).n_rows(), 1);
  for (size_t c = 0; c < scales.size(); ++c) of_row[group.producer_rows[c]] = scales[c];
  model.edit_rows(group.producer_linear, pool, [&](uint64_t r, std::span<double> row) {
    for (double& v : row) v /= of_row[r];
  });
  if (!group.producer_bias.empty())
    model.edit_rows(group.producer_bias, pool, [&](uint64_t, std::span<double> values) {
      for (size_t r = 0; r < values.size(); ++r) values[r] /= of_row[r];
    });
}

}  // namespace tsubu
