// GraphBuilder: one function per operation; and the groups of linears that share an input.
#include "model/graph.h"

#include <cmath>
#include <map>
#include <utility>

namespace tsubu {
namespace {

bool same_rope(const RopeSpec& a, const RopeSpec& b) {
  return a.style == b.style && a.magnitude == b.magnitude && a.inverse_frequencies == b.inverse_frequencies;
}

// The linear that wrote a value which then reached `value` channel by channel, so that a scale of one of its rows is a
// scale of one column of the readers: up → silu(gate)·up, and v → attention when every query head has its own v head.
std::string elementwise_producer(const Graph& graph, const std::vector<const Op*>& producers, ValueId value) {
  const Op* op = producers[static_cast<size_t>(value)];
  if (!op) return {};
  ValueId source = kNoValue;
  if (op->kind == OpKind::kSiluMul) source = op->inputs[1];
  if (op->kind == OpKind::kAttention && op->n_heads == op->n_kv_heads) source = op->inputs[2];
  if (source == kNoValue) return {};
  const Op* linear = producers[static_cast<size_t>(source)];
  if (!linear || linear->kind != OpKind::kLinear) return {};
  const auto width = [&](ValueId id) { return graph.widths[static_cast<size_t>(id)]; };
  return width(source) == width(value) ? linear->weight : std::string();
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
  std::vector<const Op*> producers(graph.widths.size(), nullptr);
  for (const Op& op : graph.ops) producers[static_cast<size_t>(op.output)] = &op;

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
      const Op* producer = producers[static_cast<size_t>(input)];
      if (producer && (producer->kind == OpKind::kRmsNorm || producer->kind == OpKind::kLayerNorm))
        group.norm_weight = producer->weight;
      group.producer_linear = elementwise_producer(graph, producers, input);
      groups.push_back(std::move(group));
    }
    groups[it->second].linears.push_back(op.weight);
  }
  return groups;
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

ValueId GraphBuilder::add_position(ValueId x, const std::string& weight) {
  Op op;
  op.kind = OpKind::kAddPosition;
  op.inputs = {x};
  op.weight = weight;
  return push(std::move(op), graph_.widths[static_cast<size_t>(x)]);
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
  Op op;
  op.kind = OpKind::kAttention;
  op.inputs = {q, k, v};
  op.n_heads = n_heads;
  op.n_kv_heads = n_kv_heads;
  op.head_dim = head_dim;
  op.attention_scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
  op.sliding_window = sliding_window;
  return push(std::move(op), n_heads * head_dim);
}

ValueId GraphBuilder::silu_mul(ValueId gate, ValueId up) {
  Op op;
  op.kind = OpKind::kSiluMul;
  op.inputs = {gate, up};
  return push(std::move(op), graph_.widths[static_cast<size_t>(gate)]);
}

ValueId GraphBuilder::gelu(ValueId x) {
  Op op;
  op.kind = OpKind::kGelu;
  op.inputs = {x};
  return push(std::move(op), graph_.widths[static_cast<size_t>(x)]);
}

ValueId GraphBuilder::add(ValueId a, ValueId b) {
  Op op;
  op.kind = OpKind::kAdd;
  op.inputs = {a, b};
  return push(std::move(op), graph_.widths[static_cast<size_t>(a)]);
}

Graph GraphBuilder::finish(ValueId logits) {
  graph_.logits = logits;
  return std::exchange(graph_, {});
}

}  // namespace tsubu
