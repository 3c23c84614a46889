#include "pipeline/rounding_groups.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

namespace tsubu {
namespace {

// The value that op's output is added to and nothing else happens to it; kNoValue when there is none.
ValueId residual_of(const Graph& graph, const Op& linear) {
  ValueId residual = kNoValue;
  for (const Op& op : graph.ops) {
    const bool reads = std::find(op.inputs.begin(), op.inputs.end(), linear.output) != op.inputs.end();
    if (!reads) continue;
    if (op.kind != OpKind::kAdd || residual != kNoValue) return kNoValue;
    residual = op.inputs[0] == linear.output ? op.inputs[1] : op.inputs[0];
  }
  return residual;
}

}  // namespace

std::vector<RoundingGroup> rounding_groups(const Model& model, const std::vector<PlannedTensor>& plan) {
  std::map<std::string, const PlannedTensor*> planned;
  for (const PlannedTensor& p : plan) planned[p.tensor->name()] = &p;
  std::vector<RoundingGroup> groups;
  std::map<std::pair<ValueId, bool>, size_t> group_of;  // by input and whether they are experts'
  const Graph& graph = model.graph();
  for (size_t i = 0; i < graph.ops.size(); ++i) {
    const Op& op = graph.ops[i];
    if (!is_linear(op)) continue;
    const bool is_experts = op.kind == OpKind::kExpertLinear;
    const auto [it, is_new] = group_of.emplace(std::pair(op.inputs[0], is_experts), groups.size());
    if (is_new) groups.push_back({i, i, op.inputs[0], is_experts, {}});
    RoundingGroup& group = groups[it->second];
    group.last_step = i;
    group.linears.push_back({&op, planned.at(op.weight), is_experts ? kNoValue : residual_of(graph, op)});
  }
  return groups;
}

}  // namespace tsubu
