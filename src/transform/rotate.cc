#include "transform/rotate.h"

#include <algorithm>
#include <map>
#include <optional>

#include "base/error.h"
#include "transform/fold.h"
#include "transform/orthogonal.h"

namespace tsubu {
namespace {

constexpr const char* kLayerNormAdvice =
    "a layer norm subtracts the mean, which a rotation does not keep: only models with RMS norms can be rotated (heads "
    "alone can: --rotate-heads)";

std::string kind_of(const Orthogonal& q) {
  if (!q.is_hadamard()) return fmt::format("random orthogonal matrix of {} (no Hadamard matrix of that size)", q.n());
  const size_t base = hadamard_base(q.n());
  return base == 1 ? fmt::format("random Hadamard matrix of {}", q.n())
                   : fmt::format("random Hadamard matrix of {} = {} × {}", q.n(), q.n() / base, base);
}

// Which values are the residual stream: what embeddings and additions to it make, and what is added to it.
std::vector<bool> stream_values(const Graph& graph) {
  std::vector<bool> in_stream(graph.widths.size());
  const auto is = [&](ValueId v) { return in_stream[static_cast<size_t>(v)]; };
  for (bool grows = true; grows;) {
    grows = false;
    const auto mark = [&](ValueId v) {
      grows = grows || !is(v);
      in_stream[static_cast<size_t>(v)] = true;
    };
    for (const Op& op : graph.ops) {
      const bool continues = (op.kind == OpKind::kAdd || op.kind == OpKind::kAddPosition) &&
                             (is(op.output) || std::any_of(op.inputs.begin(), op.inputs.end(), is));
      if (op.kind != OpKind::kEmbed && !continues) continue;
      mark(op.output);
      for (ValueId v : op.inputs) mark(v);
    }
  }
  return in_stream;
}

// The linear of experts whose outputs a sum by weights adds up, when nothing else reads them.
const Op* summed_experts(const Graph& graph, const Op& sum) {
  const Op* writer = nullptr;
  size_t n_readers = 0;
  for (const Op& op : graph.ops) {
    if (op.output == sum.inputs[0]) writer = &op;
    n_readers += std::find(op.inputs.begin(), op.inputs.end(), sum.inputs[0]) != op.inputs.end();
  }
  return writer && writer->kind == OpKind::kExpertLinear && n_readers == 1 ? writer : nullptr;
}

// What R1 does to the weights of one graph.
struct Plan {
  std::vector<const Op*> tables;                           // embeddings: rows
  std::vector<const Op*> writers;                          // linears: columns, bias
  std::vector<std::pair<const Op*, std::string>> readers;  // linears and the norm whose gain they take over
  std::vector<std::string> norms;
  uint32_t width = 0;
};

[[noreturn]] void refuse(const Model& model, const Op& op, const char* why) {
  fail(ExitCode::kUnsupported, "{}: rotating the residual stream: {}{}{}", model.path(), op.weight,
       op.weight.empty() ? "" : ": ", why);
}

Plan make_plan(const Model& model) {
  const Graph& graph = model.graph();
  const std::vector<bool> in_stream = stream_values(graph);
  std::map<std::string, size_t> n_uses;
  std::map<ValueId, const Op*> norm_of;  // by output
  Plan plan;
  const auto is_stream = [&](ValueId v) { return in_stream[static_cast<size_t>(v)]; };
  for (const Op& op : graph.ops) {
    for (const std::string* name : {&op.weight, &op.bias})
      if (!name->empty() && ++n_uses[*name] > 1) refuse(model, op, "used twice in the graph");
    const bool reads = std::any_of(op.inputs.begin(), op.inputs.end(), is_stream);
    const bool reads_norm =
        std::any_of(op.inputs.begin(), op.inputs.end(), [&](ValueId v) { return norm_of.contains(v); });
    if (reads_norm && !is_linear(op)) refuse(model, op, "something else than a linear reads a norm");
    if (is_stream(op.output)) {
      plan.width = graph.widths[static_cast<size_t>(op.output)];
      if (op.kind == OpKind::kEmbed || op.kind == OpKind::kAddPosition)
        plan.tables.push_back(&op);
      else if (op.kind == OpKind::kLinear)
        plan.writers.push_back(&op);
      else if (const Op* experts = op.kind == OpKind::kExpertSum ? summed_experts(graph, op) : nullptr)
        plan.writers.push_back(experts);
      else if (op.kind != OpKind::kAdd)
        refuse(model, op, "something else than a linear writes the stream");
    }
    if (is_linear(op) && (reads || reads_norm)) {
      plan.readers.emplace_back(&op, reads_norm ? norm_of.at(op.inputs[0])->weight : std::string());
    } else if (reads && op.kind == OpKind::kRmsNorm && op.head_dim == 0) {
      norm_of[op.output] = &op;
      plan.norms.push_back(op.weight);
    } else if (reads && op.kind == OpKind::kLayerNorm) {
      refuse(model, op, kLayerNormAdvice);
    } else if (reads && op.kind != OpKind::kAdd && op.kind != OpKind::kAddPosition) {
      refuse(model, op, "something else than norms and linears reads the stream");
    }
  }
  if (plan.tables.empty()) fail(ExitCode::kUnsupported, "{}: rotating the residual stream: no embedding", model.path());
  return plan;
}

}  // namespace

std::vector<std::string> rotate_residual(EditableModel& model, uint64_t seed, ThreadPool& pool) {
  std::vector<std::string> notes;
  for (const Op& op : model.graph().ops)  // before a head is copied for nothing
    if (op.kind == OpKind::kLayerNorm) refuse(model, op, kLayerNormAdvice);
  if (model.untie_head()) notes.push_back("the head was the token embedding: it is output.weight now");
  const Plan plan = make_plan(model);
  const Orthogonal q(plan.width, seed);
  const auto rotate = [&](uint64_t, std::span<double> values) { q.apply(values); };
  for (const Op* op : plan.tables) model.edit_rows(op->weight, pool, rotate);
  for (const Op* op : plan.writers) {
    model.edit_columns(op->weight, pool, rotate);
    if (!op->bias.empty()) model.edit_rows(op->bias, pool, rotate);
  }
  for (const auto& [op, norm] : plan.readers) {
    const std::vector<double> gain = norm.empty() ? std::vector<double>(plan.width, 1.0) : model.vector(norm);
    model.edit_rows(op->weight, pool, [&](uint64_t, std::span<double> row) {
      for (size_t c = 0; c < row.size(); ++c) row[c] *= gain[c];
      q.apply(row);
    });
  }
  for (const std::string& norm : plan.norms)
    model.edit_rows(norm, pool, [](uint64_t, std::span<double> gain) { std::fill(gain.begin(), gain.end(), 1.0); });
  notes.push_back(kind_of(q));
  return notes;
}

std::vector<std::string> rotate_heads(EditableModel& model, uint64_t seed, ThreadPool& pool) {
  std::optional<Orthogonal> q;
  for (const FoldableGroup& group : foldable_groups(model.graph())) {
    if (group.producer_heads == 0) continue;
    const auto [first, last] = std::minmax_element(group.producer_rows.begin(), group.producer_rows.end());
    const size_t begin = *first, head_dim = (*last - *first + size_t{1}) / group.producer_heads;
    q.emplace(head_dim, seed + static_cast<uint64_t>(group.layer));
    const auto rotate_slices = [&](std::span<double> values, size_t from, size_t n_heads) {
      for (size_t h = 0; h < n_heads; ++h) q->apply(values.subspan(from + h * head_dim, head_dim));
    };
    model.edit_columns(group.producer_linear, pool,
                       [&](uint64_t, std::span<double> column) { rotate_slices(column, begin, group.producer_heads); });
    if (!group.producer_bias.empty())
      model.edit_rows(group.producer_bias, pool,
                      [&](uint64_t, std::span<double> values) { rotate_slices(values, begin, group.producer_heads); });
    for (const std::string& linear : group.linears)
      model.edit_rows(linear, pool,
                      [&](uint64_t, std::span<double> row) { rotate_slices(row, 0, row.size() / head_dim); });
  }
  if (!q) fail(ExitCode::kUnsupported, "{}: rotating the heads: no value heads that feed one linear", model.path());
  return {kind_of(*q) + " in every layer"};
}

}  // namespace tsubu
