#include "transform/fold.h"

#include <algorithm>

namespace tsubu {

namespace {

size_t readers(const Graph& graph, ValueId value) {
  size_t n = value == graph.logits ? 1 : 0;
  for (const Op& op : graph.ops) n += static_cast<size_t>(std::count(op.inputs.begin(), op.inputs.end(), value));
  return n;
}

bool used_once(const Graph& graph, const std::string& weight) {
  return weight.empty() ||
         std::count_if(graph.ops.begin(), graph.ops.end(), [&](const Op& op) { return op.weight == weight || op.bias == weight; }) == 1;
}

const Op* producer(const Graph& graph, ValueId value) {
  for (const Op& op : graph.ops)
    if (op.output == value) return &op;
  return nullptr;
}

// Whether a group that is not foldable by itself is with the experts that read its input: a norm that only they read.
bool folds_with_experts(const Graph& graph, const FoldableGroup& group) {
  if (group.experts.empty() || group.norm_weight.empty()) return false;
  const Op* norm = producer(graph, group.input);
  bool once = norm->head_dim == 0 && used_once(graph, norm->weight) && used_once(graph, norm->bias);
  for (const auto* linears : {&group.linears, &group.experts})
    for (const std::string& name : *linears) once = once && used_once(graph, name);
  return once && readers(graph, group.input) == group.linears.size() + group.experts.size();
}

}  // namespace

std::vector<FoldableGroup> foldable_groups(const Graph& graph) {
  std::vector<FoldableGroup> groups;
  for (LinearGroup& found : linear_groups(graph)) {
    if (found.layer < 0) continue;
    FoldableGroup group{std::move(found), {}};
    for (const Op& op : graph.ops)
      if (op.kind == OpKind::kExpertLinear && op.inputs[0] == group.input) group.experts.push_back(op.weight);
    if (group.foldable || folds_with_experts(graph, group)) groups.push_back(std::move(group));
  }
  return groups;
}

std::vector<FoldableExperts> foldable_experts(const Graph& graph) {
  std::vector<FoldableExperts> groups;
  for (ExpertGroup& found : expert_groups(graph)) {
    if (!found.is_routed || found.layer < 0) continue;
    const Op* gate = producer(graph, found.input);
    if (!gate || (gate->kind != OpKind::kSiluMul && gate->kind != OpKind::kGeluMul)) continue;
    const Op* up = producer(graph, gate->inputs[1]);
    if (!up || up->kind != OpKind::kExpertLinear || up->n_experts != found.n_experts) continue;
    bool folds = readers(graph, up->output) == 1 && readers(graph, found.input) == found.linears.size() &&
                 used_once(graph, up->weight) && used_once(graph, up->bias);
    for (const std::string& name : found.linears) folds = folds && used_once(graph, name);
    if (folds) groups.push_back({std::move(found), up->n_used, up->weight, up->bias});
  }
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

void fold_scales(EditableModel& model, const FoldableGroup& group, std::span<const double> scales, ThreadPool& pool) {
  for (const auto* linears : {&group.linears, &group.experts})
    for (const std::string& linear : *linears)
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

void fold_expert_scales(EditableModel& model, const FoldableExperts& group, std::span<const double> scales, ThreadPool& pool) {
  const uint64_t n = group.n_cols;
  for (const std::string& linear : group.linears) {
    const uint64_t rows = model.tensor(linear).n_rows() / group.n_experts;  // of one expert
    model.edit_rows(linear, pool, [&](uint64_t r, std::span<double> row) {
      for (size_t c = 0; c < row.size(); ++c) row[c] *= scales[r / rows * n + c];
    });
  }
  model.edit_rows(group.producer_linear, pool, [&](uint64_t r, std::span<double> row) {
    for (double& v : row) v /= scales[r];
  });
  if (group.producer_bias.empty()) return;
  model.edit_rows(group.producer_bias, pool, [&](uint64_t r, std::span<double> values) {
    for (size_t i = 0; i < values.size(); ++i) values[i] /= scales[r * values.size() + i];
  });
}

}  // namespace tsubu
