#include "pipeline/kept_stream.h"

#include <algorithm>
#include <bit>

#include "kernel/kernels.h"
#include "model/graph.h"

namespace tsubu {
namespace {

// Whether everything from `step` on that reads the value rounds it to bfloat16 anyway.
bool read_as_bf16(const Graph& graph, ValueId value, size_t step, Products products) {
  if (products != Products::kBf16) return false;
  for (size_t i = step; i < graph.ops.size(); ++i) {
    const Op& op = graph.ops[i];
    if (std::find(op.inputs.begin(), op.inputs.end(), value) == op.inputs.end()) continue;
    constexpr size_t kPanel = 16;  // Linear::runs_bf16
    if (op.kind != OpKind::kLinear || op.output == graph.logits) return false;
    if (graph.widths[static_cast<size_t>(op.output)] % kPanel != 0) return false;
  }
  return true;
}

}  // namespace

double kept_width(const Graph& graph, size_t step, Products products) {
  double width = 0;
  for (ValueId v : live_values(graph, step))
    width += static_cast<double>(graph.widths[static_cast<size_t>(v)]) * (read_as_bf16(graph, v, step, products) ? 0.5 : 1);
  return width;
}

size_t narrowest_step(const Graph& graph, size_t from, size_t to, size_t otherwise, size_t n_embd, Products products) {
  constexpr double kStoredWidth = 2.5;
  size_t best = otherwise;
  double least = kStoredWidth * static_cast<double>(n_embd) + 0.5;
  for (size_t s = from; s <= to; ++s) {
    if (s == 0 || live_values(graph, s).empty()) continue;
    if (const double width = kept_width(graph, s, products); width < least) {
      least = width;
      best = s;
    }
  }
  return best;
}

KeptStream::KeptStream(const Model& model, const Corpus& corpus, Products products, ThreadPool& pool)
    : model_(model),
      corpus_(corpus),
      engine_(Engine::make(model, pool, {.bf16_products = products == Products::kBf16})),
      session_(engine_->new_session(corpus.context)),
      products_(products),
      chunks_(corpus.chunks.size()) {}

void KeptStream::logits(const std::vector<TokenId>& tokens, size_t n, std::span<float> out) {
  session_->truncate(0);
  engine_->forward(*session_, tokens, n, out);
}

void KeptStream::advance(size_t chunk, size_t keep, size_t end, const std::vector<ValueId>& wanted,
                         std::map<ValueId, std::vector<float>>& out) {
  const auto& tokens = corpus_.chunks[chunk];
  KeptValues& kept = chunks_[chunk];
  if (keep > kept.step) {
    run(tokens, kept.step, keep, kept, live_values(model_.graph(), keep), out);
    store(out, keep, kept);
    if (keep == end) return;  // as floats, not as they were kept
  }
  run(tokens, kept.step, end, kept, wanted, out);
}

void KeptStream::store(const std::map<ValueId, std::vector<float>>& values, size_t step, KeptValues& kept) {
  kept = {};
  kept.step = step;
  for (ValueId v : live_values(model_.graph(), step)) {
    const std::vector<float>& from = values.at(v);
    if (read_as_bf16(model_.graph(), v, step, products_)) {
      auto& to = kept.bf16[v];
      to.resize(from.size());
      kernels().round_to_bf16(from.data(), from.size(), to.data());
    } else {
      kept.floats[v] = from;
    }
  }
}

void KeptStream::run(const std::vector<TokenId>& tokens, size_t begin, size_t end, const KeptValues& in,
                     const std::vector<ValueId>& wanted, std::map<ValueId, std::vector<float>>& out) {
  std::vector<StageValue> inputs, outputs;
  for (const auto& [v, values] : in.floats) inputs.push_back({v, const_cast<float*>(values.data())});
  for (const auto& [v, values] : in.bf16) {
    auto& floats = restored_[v];
    floats.resize(values.size());
    for (size_t i = 0; i < values.size(); ++i) floats[i] = std::bit_cast<float>(uint32_t{values[i]} << 16);
    inputs.push_back({v, floats.data()});
  }
  for (ValueId v : wanted) {
    auto& data = out[v];
    data.resize(tokens.size() * model_.graph().widths[static_cast<size_t>(v)]);
    outputs.push_back({v, data.data()});
  }
  engine_->run_steps(*session_, tokens, begin, end, inputs, outputs);
}

}  // namespace tsubu
