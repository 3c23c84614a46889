#include "gradient/memory.h"

#include <algorithm>
#include <map>

#include "engine/linear.h"
#include "engine/memory.h"
#include "gradient/linear_gradient.h"

namespace tsubu {
namespace {

// Backward's passes with the sizes of buffers alone: what is lent when, in its order.
class Walk {
 public:
  Walk(const Graph& graph, const BackwardUse& use) : graph_(graph), n_(use.n_tokens) {
    head_ = graph.ops.size() - 1;
    for (size_t i = 0; i < head_; ++i)
      if (i == 0 || graph.ops[i].layer != graph.ops[i - 1].layer) cuts_.push_back(i);
    cuts_.push_back(head_);
    uint64_t floats = 0;
    for (uint32_t w : graph.widths) floats += w;
    is_kept_ = floats * n_ * sizeof(float) <= use.kept_bytes;
  }

  void pass(bool goes_back) {
    for (size_t s = 0; s + 1 < cuts_.size(); ++s) forward(s, goes_back && is_kept_);
    head(goes_back);
    for (size_t s = cuts_.size() - 1; goes_back && s-- > 0;) {
      if (!is_kept_) forward(s, true);
      for (size_t i = cuts_[s + 1]; i-- > cuts_[s];) back(graph_.ops[i]);
    }
    for (auto* sizes : {&values_, &gradients_}) {
      for (const auto& [value, size] : *sizes) lent_.give(size);
      sizes->clear();
    }
  }
  uint64_t floats() const { return lent_.floats(); }

 private:
  size_t width(ValueId v) const { return graph_.widths[static_cast<size_t>(v)]; }
  size_t take(ValueId v) { return lent_.take(n_ * width(v)); }

  void forward(size_t segment, bool keep_all) {
    const auto hold = [&](ValueId v) {
      if (!values_.contains(v)) values_[v] = take(v);
    };
    if (!keep_all) {
      for (ValueId v : live_values(graph_, cuts_[segment + 1])) hold(v);
      return;
    }
    for (size_t i = cuts_[segment]; i < cuts_[segment + 1]; ++i) hold(graph_.ops[i].output);
  }

  void head(bool goes_back) {
    const Op& op = graph_.ops[head_];
    const size_t n_vocab = width(op.output), logits = std::min(n_, Backward::tokens_of_head(n_vocab)) * n_vocab;
    std::vector<size_t> taken = {lent_.take(logits)};
    if (goes_back && op.softcap != 0) taken.push_back(lent_.take(logits));
    if (goes_back) gradients_[op.inputs[0]] = take(op.inputs[0]);
    for (size_t size : taken) lent_.give(size);
  }

  void add(ValueId v, size_t size) {
    if (!gradients_.try_emplace(v, size).second) lent_.give(size);
  }

  void back(const Op& op) {
    if (gradients_.contains(op.output)) {
      std::vector<ValueId> inputs = op.inputs;
      if (op.kind == OpKind::kEmbed || op.kind == OpKind::kHeads) inputs.clear();
      if (op.kind == OpKind::kRoute || op.kind == OpKind::kExpertLinear) inputs.resize(1);
      if (op.kind == OpKind::kSlice && gradients_.contains(inputs[0])) inputs.clear();  // added in place
      const bool in_turn = op.kind == OpKind::kConcat || op.kind == OpKind::kAdd;
      std::vector<size_t> taken;
      for (ValueId v : inputs) {
        taken.push_back(take(op.kind == OpKind::kAdd || op.kind == OpKind::kAddPosition ? op.output : v));
        if (in_turn) add(v, taken.back());
      }
      for (size_t i = 0; !in_turn && i < inputs.size(); ++i) add(inputs[i], taken[i]);
    }
    for (auto* sizes : {&values_, &gradients_}) {
      const auto found = sizes->find(op.output);
      if (found == sizes->end()) continue;
      lent_.give(found->second);
      sizes->erase(found);
    }
  }

  const Graph& graph_;
  size_t n_ = 0, head_ = 0;
  bool is_kept_ = false;
  std::vector<size_t> cuts_;
  std::map<ValueId, size_t> values_, gradients_;
  LentSizes lent_;
};

}  // namespace

uint64_t predicted_backward_bytes(const Model& model, const BackwardUse& use) {
  const Graph& graph = model.graph();
  Walk walk(graph, use);
  // The forward pass first, as it judges before it trains; then again and again, until nothing more is needed.
  for (uint64_t before = 1; before != walk.floats();) {
    before = walk.floats();
    walk.pass(false);
    if (use.goes_back) walk.pass(true);
  }
  const uint64_t n = use.n_tokens;
  const auto threads = static_cast<uint64_t>(std::max(1, use.n_threads));
  LinearGradientSizes linears(use.options.bf16_products), experts;
  uint64_t routed = 0, rounded = 0, n_heads = 0, head_dim = 0, value_dim = 0;
  for (const Op& op : graph.ops) {
    if (is_linear(op)) {
      const ModelTensor& t = model.tensor(op.weight);
      const uint64_t n_cols = t.n_cols(), n_rows = t.n_rows() / t.n_matrices();
      const bool is_head = &op == &graph.ops.back();
      const uint64_t count = is_head ? std::min<uint64_t>(n, Backward::tokens_of_head(n_rows)) : n;
      (op.kind == OpKind::kExpertLinear ? experts : linears).input(n_rows, n_cols, count);
      if (op.kind == OpKind::kExpertLinear) routed = std::max(routed, n * (2 * n_cols + n_rows));
      rounded = std::max(rounded, n_cols);
    }
    if (op.kind == OpKind::kAttention) {
      n_heads = std::max<uint64_t>(n_heads, op.n_heads);
      head_dim = std::max<uint64_t>(head_dim, op.head_dim);
      value_dim = std::max<uint64_t>(value_dim, op.value_dim);
    }
  }
  const ModelTensor& head = model.tensor(graph.ops.back().weight);
  uint64_t bytes = walk.floats() * sizeof(float) + threads * max_tile_rows(head.n_cols(), head.n_rows()) * head.n_cols() * sizeof(float);
  EngineOptions engine;
  engine.numerics = use.options.numerics;
  engine.bf16_products = use.options.bf16_products && !use.options.numerics.any();
  bytes += predicted_engine_bytes(model, engine, use.n_tokens, use.n_threads);
  if (!use.goes_back) return bytes;
  bytes += linears.bytes(use.n_threads) + (routed > 0 ? experts.bytes(use.n_threads) + routed * sizeof(float) : 0);
  if (use.options.numerics.activations) bytes += (2 * n * rounded + threads * rounded) * sizeof(float);
  return bytes + AttentionGradient::size_bytes(n_heads, head_dim, value_dim, n, use.n_threads);
}

}  // namespace tsubu
