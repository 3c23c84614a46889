#include "gradient/memory.h"

#include <algorithm>
#include <map>
#include <set>

#include "gradient/backward.h"
#include "gradient/linear_gradient.h"

namespace tsubu {
namespace {

// Floats of the buffers at work, and the most there were at once.
struct Buffers {
  uint64_t now = 0, most = 0;
  void take(uint64_t n) {
    now += n;
    most = std::max(most, now);
  }
};

// Gradients of the inputs of an operation that are made in a buffer of their own before they are added to what is there.
uint64_t walk_back(const Graph& graph, size_t begin, size_t end, uint64_t n, std::set<ValueId>& gradients, Buffers& buffers) {
  for (size_t i = end; i-- > begin;) {
    const Op& op = graph.ops[i];
    const auto width = [&](ValueId v) { return graph.widths[static_cast<size_t>(v)] * n; };
    if (gradients.contains(op.output) && op.kind != OpKind::kEmbed) {
      for (ValueId v : op.inputs) {
        buffers.take(width(v));
        if (!gradients.insert(v).second) buffers.now -= width(v);
      }
    }
    buffers.now -= width(op.output);
    if (gradients.erase(op.output) > 0) buffers.now -= width(op.output);
  }
  return buffers.most;
}

}  // namespace

uint64_t predicted_backward_bytes(const Model& model, size_t n_tokens, int n_threads, uint64_t kept_bytes) {
  const Graph& graph = model.graph();
  const uint64_t n = n_tokens, stride = padded_stride(n_tokens);
  const size_t head = graph.ops.size() - 1;
  std::vector<size_t> cuts;
  for (size_t i = 0; i < head; ++i)
    if (i == 0 || graph.ops[i].layer != graph.ops[i - 1].layer) cuts.push_back(i);
  cuts.push_back(head);
  const auto width = [&](ValueId v) { return uint64_t{graph.widths[static_cast<size_t>(v)]} * n; };
  std::set<ValueId> boundary;
  Buffers buffers;
  uint64_t all = 0;
  for (uint32_t w : graph.widths) all += w;
  if (all * n * sizeof(float) <= kept_bytes) {
    for (size_t i = 0; i < head; ++i)
      if (boundary.insert(graph.ops[i].output).second) buffers.take(width(graph.ops[i].output));
  } else {
    for (size_t s = 1; s < cuts.size(); ++s)
      for (ValueId v : live_values(graph, cuts[s]))
        if (boundary.insert(v).second) buffers.take(width(v));
  }
  const Op& last = graph.ops.back();
  const uint64_t logits = std::min<uint64_t>(n, Backward::tokens_of_head(graph.widths[static_cast<size_t>(last.output)])) *
                          graph.widths[static_cast<size_t>(last.output)];
  std::set<ValueId> gradients = {last.inputs[0]};
  buffers.take(width(last.inputs[0]) + (last.softcap != 0 ? 2 : 1) * logits);
  buffers.now -= (last.softcap != 0 ? 2 : 1) * logits;
  for (size_t s = cuts.size() - 1; s-- > 0;) {
    for (size_t i = cuts[s]; i < cuts[s + 1]; ++i)
      if (!boundary.contains(graph.ops[i].output)) buffers.take(width(graph.ops[i].output));
    walk_back(graph, cuts[s], cuts[s + 1], n, gradients, buffers);
  }
  uint64_t weights = 0, rows = 0, heads = 0, worker = 0, routed = 0;
  for (const Op& op : graph.ops) {
    if (is_linear(op)) {
      const ModelTensor& t = model.tensor(op.weight);
      const uint64_t n_cols = t.n_cols(), n_rows = t.n_rows() / t.n_matrices();
      weights = std::max(weights, LinearGradient::slab_floats(n_rows, n_cols, n));
      rows = std::max(rows, n_cols);
      if (op.kind == OpKind::kExpertLinear) routed = std::max(routed, n * (2 * n_cols + n_rows));
    }
    if (op.kind == OpKind::kAttention) {
      heads = std::max(heads, 2 * uint64_t{op.n_heads} * op.head_dim * n);
      worker = std::max(worker, (4 * n + stride) * op.head_dim + 3 * 64 * stride + n);
    }
  }
  const auto threads = static_cast<uint64_t>(std::max(1, n_threads));
  return (buffers.most + weights + threads * 16 * rows + heads + threads * worker + routed) * sizeof(float);
}

}  // namespace tsubu
