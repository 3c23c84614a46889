// GraphBuilder: one function per operation; and the groups of linears that share an input.
#include "model/graph.h"

#include <cmath>
#include <map>
#include <utility>

namespace tsubu {
namespace {

bool same_rope(const RopeSpec& a, const RopeSpec& b) {
  return a.style == b.style && a.magnitude == b.magnitude && a.inverse_frequencies == b.inverse_frequencies &&
         a.long_inverse_frequencies == b.long_inverse_frequencies && a.long_from == b.long_from;
}

// What is asked again and again of a graph: who wrote a value, how many operations read it, how many use a weight.
struct GraphIndex {
  explicit GraphIndex(const Graph& graph) : producers(graph.widths.size()), n_readers(graph.widths.size()) {
    for (const Op& op : graph.ops) {
      producers[static_cast<size_t>(op.output)] = &op;
      for (ValueId v : op.inputs) ++n_readers[static_cast<size_t>(v)];
      if (!op.weight.empty()) ++n_uses[op.weight];
      if (!op.bias.empty()) ++n_uses[op.bias];
    }
    if (graph.logits != kNoValue) ++n_readers[static_cast<size_t>(graph.logits)];
  }
  const Op* producer(ValueId v) const { return producers[static_cast<size_t>(v)]; }
  size_t readers(ValueId v) const { return n_readers[static_cast<size_t>(v)]; }
  bool used_once(const std::string& weight) const { return weight.empty() || n_uses.at(weight) == 1; }

  std::vector<const Op*> producers;
  std::vector<size_t> n_readers;
  std::map<std::string, size_t> n_uses;
};

// The linear that wrote a value which then reaches the group's input channel by channel, so that a scale of one of its
// rows is a scale of columns of the readers: up → silu(gate)·up, and v → attention, where the query heads of a group read
// one v head. Sets `only` when nothing else reads those rows' output.
void find_producer(const Graph& graph, const GraphIndex& index, LinearGroup& group, bool& only) {
  const Op* op = index.producer(group.input);
  const bool is_gate = op && (op->kind == OpKind::kSiluMul || op->kind == OpKind::kGeluMul);
  if (!op || (!is_gate && op->kind != OpKind::kAttention)) return;
  const bool is_attention = op->kind == OpKind::kAttention;
  const ValueId source = op->inputs[is_attention ? 2 : 1];
  const Op* linear = index.producer(source);
  only = index.readers(source) == 1;
  uint32_t first_row = 0;
  if (linear && linear->kind == OpKind::kSlice) {  // rows of a fused projection
    const ValueId whole = linear->inputs[0];
    const uint32_t begin = first_row = linear->offset, end = begin + graph.widths[static_cast<size_t>(source)];
    size_t slices = 0;
    for (const Op& other : graph.ops)
      if (other.kind == OpKind::kSlice && other.inputs[0] == whole) {
        ++slices;
        const uint32_t other_end = other.offset + graph.widths[static_cast<size_t>(other.output)];
        only &= &other == linear || other_end <= begin || end <= other.offset;
      }
    only &= slices == index.readers(whole);
    linear = index.producer(whole);
  }
  if (!linear || linear->kind != OpKind::kLinear) return;
  const uint32_t width = graph.widths[static_cast<size_t>(group.input)];
  for (uint32_t c = 0; c < width; ++c) {
    uint32_t row = c;
    if (is_attention) row = c / op->value_dim / (op->n_heads / op->n_kv_heads) * op->value_dim + c % op->value_dim;
    group.producer_rows.push_back(first_row + row);
  }
  group.producer_linear = linear->weight;
  group.producer_bias = linear->bias;
  group.producer_heads = is_attention ? op->n_kv_heads : 0;
  only &= index.used_once(linear->weight) && index.used_once(linear->bias);
}

}  // namespace

std::vector<ValueId> live_values(const Graph& graph, size_t step) {
  std::vector<bool> computed(graph.widths.size(), false);
  for (size_t i = 0; i < step; ++i) computed[static_cast<size_t>(graph.ops[i].output)] = true;
  std::vector<ValueId> live;
  for (size_t i = step; i < graph.ops.size(); ++i)
    for (ValueId v : graph.ops[i].inputs)
      if (computed[static_cast<size_t>(v)]) {
        computed[static_cast<size_t>(v)] = false;
        live.push_back(v);
      }
  return live;
}

std::vector<LinearGroup> linear_groups(const Graph& graph) {
  const GraphIndex index(graph);
  std::vector<LinearGroup> groups;
  std::map<ValueId, size_t> group_of;
  for (const Op& op : graph.ops) {
    if (op.kind != OpKind::kLinear) continue;
    const ValueId input = op.inputs[0];
    const auto [it, is_new] = group_of.emplace(input, groups.size());
    if (is_new) {
      LinearGroup group;
      group.input = input;
      group.layer = op.layer;
      const Op* producer = index.producer(input);
      if (producer && (producer->kind == OpKind::kRmsNorm || producer->kind == OpKind::kLayerNorm)) {
        group.norm_weight = producer->weight;
        group.norm_bias = producer->bias;
        group.foldable =
            producer->head_dim == 0 && index.used_once(producer->weight) && index.used_once(producer->bias);
      } else {
        find_producer(graph, index, group, group.foldable);
        group.foldable &= !group.producer_linear.empty();
      }
      groups.push_back(std::move(group));
    }
    LinearGroup& group = groups[it->second];
    group.linears.push_back(op.weight);
    group.foldable &= index.used_once(op.weight);
  }
  for (LinearGroup& group : groups) group.foldable &= index.readers(group.input) == group.linears.size();
  return groups;
}

std::vector<ExpertGroup> expert_groups(const Graph& graph) {
  std::vector<ExpertGroup> groups;
  std::map<ValueId, size_t> group_of;
  for (const Op& op : graph.ops) {
    if (op.kind != OpKind::kExpertLinear) continue;
    const auto [it, is_new] = group_of.emplace(op.inputs[0], groups.size());
    const uint32_t width = graph.widths[static_cast<size_t>(op.inputs[0])];
    if (is_new)
      groups.push_back({op.inputs[0], op.n_experts, op.by_slots ? width / op.n_used : width, {}, op.layer, is_routed(graph, op)});
    groups[it->second].linears.push_back(op.weight);
  }
  return groups;
}

bool is_routed(const Graph& graph, const Op& op) {
  for (const Op& other : graph.ops)
    if (other.output == op.inputs[1]) return other.kind == OpKind::kRoute;
  return false;
}

size_t route_all(Graph& graph) {
  std::vector<uint32_t> slots(graph.widths.size(), 0);  // that a value by slots had; 0: it is none
  size_t n_routers = 0;
  for (Op& op : graph.ops) {
    const auto at = static_cast<size_t>(op.output);
    if (op.kind == OpKind::kRoute) {
      ++n_routers;
      op.n_used = op.n_experts;
      graph.widths[at] = 2 * op.n_used;
    } else if (op.kind == OpKind::kExpertLinear && is_routed(graph, op)) {
      slots[at] = op.n_used;
      graph.widths[at] = graph.widths[at] / op.n_used * op.n_experts;
      op.n_used = op.n_experts;
    } else if (op.kind == OpKind::kExpertSum) {
      op.n_used = op.n_experts;
    } else if (!op.inputs.empty() && slots[static_cast<size_t>(op.inputs[0])] > 0) {
      slots[at] = slots[static_cast<size_t>(op.inputs[0])];
      graph.widths[at] = graph.widths[static_cast<size_t>(op.inputs[0])];
    }
  }
  return n_routers;
}

ValueId GraphBuilder::push(Op op, uint32_t width) {
  const auto output = static_cast<ValueId>(graph_.widths.size());
  op.output = output;
  op.layer = layer_;
  graph_.widths.push_back(width);
  graph_.ops.push_back(std::move(op));
  return output;
}

ValueId GraphBuilder::embed(const std::string& weight, uint32_t width) {
  Op op;
  op.kind = OpKind::kEmbed;
  op.weight = weight;
  return push(std::move(op), width);
}

ValueId GraphBuilder::add_position(ValueId x, const std::string& weight, uint32_t offset) {
  Op op;
  op.kind = OpKind::kAddPosition;
  op.inputs = {x};
  op.weight = weight;
  op.offset = offset;
  return push(std::move(op), graph_.widths[static_cast<size_t>(x)]);
}

ValueId GraphBuilder::scale(ValueId x, float factor) {
  Op op;
  op.kind = OpKind::kScale;
  op.inputs = {x};
  op.scale = factor;
  return push(std::move(op), width(x));
}

ValueId GraphBuilder::rms_norm(ValueId x, const std::string& weight, float eps, uint32_t head_dim) {
  const uint32_t width = graph_.widths[static_cast<size_t>(x)];
  Op op;
  op.kind = OpKind::kRmsNorm;
  op.inputs = {x};
  op.weight = weight;
  op.eps = eps;
  op.head_dim = head_dim;
  op.n_heads = head_dim ? width / head_dim : 0;
  return push(std::move(op), width);
}

ValueId GraphBuilder::layer_norm(ValueId x, const std::string& weight, const std::string& bias, float eps) {
  Op op;
  op.kind = OpKind::kLayerNorm;
  op.inputs = {x};
  op.weight = weight;
  op.bias = bias;
  op.eps = eps;
  return push(std::move(op), graph_.widths[static_cast<size_t>(x)]);
}

ValueId GraphBuilder::linear(ValueId x, const std::string& weight, uint32_t width, const std::string& bias) {
  Op op;
  op.kind = OpKind::kLinear;
  op.inputs = {x};
  op.weight = weight;
  op.bias = bias;
  return push(std::move(op), width);
}

ValueId GraphBuilder::slice(ValueId x, uint32_t offset, uint32_t width) {
  Op op;
  op.kind = OpKind::kSlice;
  op.inputs = {x};
  op.offset = offset;
  return push(std::move(op), width);
}

ValueId GraphBuilder::slice_heads(ValueId x, uint32_t head_dim, uint32_t offset, uint32_t width_of_one) {
  Op op;
  op.kind = OpKind::kSlice;
  op.inputs = {x};
  op.offset = offset;
  op.head_dim = head_dim;
  op.n_heads = width(x) / head_dim;
  const uint32_t n_heads = op.n_heads;
  return push(std::move(op), n_heads * width_of_one);
}

ValueId GraphBuilder::concat_heads(ValueId a, ValueId b, uint32_t n_heads) {
  Op op;
  op.kind = OpKind::kConcat;
  op.inputs = {a, b};
  op.n_heads = n_heads;
  return push(std::move(op), width(a) + width(b));
}

ValueId GraphBuilder::rope(ValueId x, const RopeSpec& spec, uint32_t n_heads, uint32_t head_dim) {
  Op op;
  op.kind = OpKind::kRope;
  op.inputs = {x};
  op.n_heads = n_heads;
  op.head_dim = head_dim;
  for (size_t i = 0; i < graph_.ropes.size() && op.rope < 0; ++i)
    if (same_rope(graph_.ropes[i], spec)) op.rope = static_cast<int>(i);
  if (op.rope < 0) {
    op.rope = static_cast<int>(graph_.ropes.size());
    graph_.ropes.push_back(spec);
  }
  return push(std::move(op), graph_.widths[static_cast<size_t>(x)]);
}

ValueId GraphBuilder::attention(ValueId q, ValueId k, ValueId v, uint32_t n_heads, uint32_t n_kv_heads,
                                uint32_t head_dim, uint32_t sliding_window) {
  return attention(q, k, v,
                   {.n_heads = n_heads, .n_kv_heads = n_kv_heads, .head_dim = head_dim, .sliding_window = sliding_window});
}

ValueId GraphBuilder::attention(ValueId q, ValueId k, ValueId v, const AttentionSpec& spec) {
  Op op;
  op.kind = OpKind::kAttention;
  op.inputs = {q, k, v};
  op.n_heads = spec.n_heads;
  op.n_kv_heads = spec.n_kv_heads;
  op.head_dim = spec.head_dim;
  op.value_dim = spec.value_dim != 0 ? spec.value_dim : spec.head_dim;
  op.attention_scale = spec.scale != 0 ? spec.scale : 1.0f / std::sqrt(static_cast<float>(spec.head_dim));
  op.sliding_window = spec.sliding_window;
  op.softcap = spec.softcap;
  op.max_alibi_bias = spec.max_alibi_bias;
  op.weight = spec.sinks;
  const uint32_t value_dim = op.value_dim;
  return push(std::move(op), spec.n_heads * value_dim);
}

ValueId GraphBuilder::gate_op(OpKind kind, ValueId gate, ValueId up) {
  Op op;
  op.kind = kind;
  op.inputs = {gate, up};
  return push(std::move(op), width(gate));
}

ValueId GraphBuilder::activation(OpKind kind, ValueId x) {
  Op op;
  op.kind = kind;
  op.inputs = {x};
  return push(std::move(op), width(x));
}

ValueId GraphBuilder::add(ValueId a, ValueId b) {
  Op op;
  op.kind = OpKind::kAdd;
  op.inputs = {a, b};
  return push(std::move(op), graph_.widths[static_cast<size_t>(a)]);
}

ValueId GraphBuilder::route(ValueId scores, const RouteSpec& spec) {
  Op op;
  op.kind = OpKind::kRoute;
  op.inputs = {scores};
  op.n_experts = spec.n_experts;
  op.n_used = op.n_chosen = spec.n_used;
  op.route = spec;
  op.bias = spec.bias;
  return push(std::move(op), 2 * spec.n_used);
}

ValueId GraphBuilder::heads(uint32_t n_heads) {
  Op op;
  op.kind = OpKind::kHeads;
  op.n_experts = op.n_used = n_heads;
  return push(std::move(op), 2 * n_heads);
}

ValueId GraphBuilder::expert_linear(ValueId x, ValueId route, const std::string& weight, uint32_t width_of_one,
                                    const std::string& bias) {
  Op op;
  op.kind = OpKind::kExpertLinear;
  op.inputs = {x, route};
  op.weight = weight;
  op.bias = bias;
  op.n_experts = producer(route).n_experts;
  op.n_used = producer(route).n_used;
  const Op* from = &producer(x);  // through activations
  while (from->kind == OpKind::kSiluMul || from->kind == OpKind::kGeluMul || from->kind == OpKind::kSwigluOai)
    from = &producer(from->inputs[0]);
  op.by_slots = from->kind == OpKind::kExpertLinear || producer(route).kind == OpKind::kHeads;
  return push(std::move(op), op.n_used * width_of_one);
}

ValueId GraphBuilder::expert_sum(ValueId x, ValueId route, float scale) {
  Op op;
  op.kind = OpKind::kExpertSum;
  op.inputs = {x, route};
  op.scale = scale;
  op.n_experts = producer(route).n_experts;
  op.n_used = producer(route).n_used;
  return push(std::move(op), width(x) / op.n_used);
}

Graph GraphBuilder::finish(ValueId logits) {
  graph_.logits = logits;
  return std::exchange(graph_, {});
}

}  // namespace tsubu
