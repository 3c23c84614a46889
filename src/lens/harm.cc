#include "lens/harm.h"

#include <algorithm>
#include <functional>

#include "base/error.h"
#include "base/progress.h"

namespace tsubu {
namespace {

constexpr uint32_t kResamples = 500;
constexpr uint64_t kBootstrapSeed = 1;

}  // namespace

std::vector<ReadGroup> read_groups(const Graph& graph) {
  std::vector<ReadGroup> groups;
  std::map<std::pair<ValueId, OpKind>, size_t> group_of;  // experts read when the router has spoken
  for (size_t i = 0; i < graph.ops.size(); ++i) {
    const Op& op = graph.ops[i];
    if (!is_linear(op)) continue;
    const auto [it, is_new] = group_of.emplace(std::pair(op.inputs[0], op.kind), groups.size());
    if (is_new) groups.push_back({i, op.inputs[0], {}});
    groups[it->second].linears.push_back(&op);
  }
  return groups;
}

uint64_t HarmMeter::logit_bytes(const Model& model, size_t context, size_t n_chunks) {
  return uint64_t{n_chunks} * (context - 1 - context / 2) * model.hparams().n_vocab * sizeof(float);
}

ActivationWalk::ActivationWalk(const Model& model, std::span<const std::vector<TokenId>> chunks, ThreadPool& pool)
    : model_(model), chunks_(chunks), engine_(Engine::make(model, pool)) {
  if (chunks.empty() || chunks.front().size() < 4)
    fail(ExitCode::kUsage, "{}: divergence needs one window of at least 4 tokens", model.path());
  session_ = engine_->new_session(chunks.front().size());
  values_.resize(chunks.size());
}

void ActivationWalk::rewind() {
  step_ = 0;
  for (auto& values : values_) values.clear();
}

void ActivationWalk::advance(size_t step) {
  if (step < step_) fail(ExitCode::kUsage, "activations are kept at step {} and do not go back to {}", step_, step);
  if (step == step_) return;
  const Graph& graph = model_.graph();
  for (size_t c = 0; c < n_chunks(); ++c) {
    std::map<ValueId, std::vector<float>> next;
    std::vector<StageValue> in, out;
    for (ValueId v : live_values(graph, step_)) in.push_back({v, values_[c].at(v).data()});
    for (ValueId v : live_values(graph, step)) {
      auto& data = next[v];
      data.resize(tokens(c).size() * graph.widths[static_cast<size_t>(v)]);
      out.push_back({v, data.data()});
    }
    engine_->run_steps(*session_, tokens(c), step_, step, in, out);
    values_[c] = std::move(next);
  }
  step_ = step;
}

void ActivationWalk::finish(size_t chunk, size_t first, std::vector<float>& logits) {
  const Graph& graph = model_.graph();
  std::vector<StageValue> in;
  for (ValueId v : live_values(graph, step_)) in.push_back({v, values_[chunk].at(v).data()});
  const StageValue out{graph.logits, logits.data(), first};
  engine_->run_steps(*session_, tokens(chunk), step_, graph.ops.size(), in, {&out, 1});
}

HarmMeter::HarmMeter(const Model& model, std::span<const std::vector<TokenId>> chunks, ThreadPool& pool)
    : model_(model), chunks_(chunks), pool_(pool), walk_(model, chunks, pool) {
  base_.resize(chunks.size());
  for (size_t c = 0; c < chunks.size(); ++c) {
    throw_if_interrupted();
    base_[c].resize(n_scored() * walk_.engine().n_vocab());
    walk_.finish(c, first_scored(), base_[c]);
    for (const TokenScore& s : score_chunk(base_[c], {}, chunks[c], protocol(), first_scored(), pool_))
      nll_ += static_cast<double>(s.nll);
  }
  nll_ /= static_cast<double>(n_scored() * chunks.size());
}

BlockSums HarmMeter::score(size_t chunk, const std::vector<float>& logits) {
  return sums_of(score_chunk(logits, base_[chunk], chunks_[chunk], protocol(), first_scored(), pool_));
}

Harm HarmMeter::finish(std::vector<BlockSums> chunks) const {
  Harm harm;
  BlockSums all;
  for (const BlockSums& c : chunks) {
    all.n += c.n;
    all.kld += c.kld;
    all.top1 += c.top1;
    all.nll_difference += c.nll_difference;
  }
  harm.kld = all.kld / all.n;
  harm.top1 = all.top1 / all.n;
  harm.ln_ppl_ratio = all.nll_difference / all.n;
  harm.kld_ci95 = mean_interval(chunks, kResamples, kBootstrapSeed, &BlockSums::kld);
  harm.kld_ci95.low = std::max(harm.kld_ci95.low, 0.0);
  harm.chunks = std::move(chunks);
  return harm;
}

Harm HarmMeter::measure(std::span<const Replacement> replacements) {
  for (const Replacement r : replacements) walk_.engine().replace_weight(r->name(), *r);
  // The unchanged weights come back whatever happens.
  struct Restore {
    HarmMeter& meter;
    std::span<const Replacement> replacements;
    ~Restore() {
      for (const Replacement r : replacements) meter.walk_.engine().replace_weight(r->name(), meter.model_.tensor(r->name()));
    }
  } restore{*this, replacements};
  std::vector<BlockSums> sums;
  std::vector<float> logits(n_scored() * walk_.engine().n_vocab());
  for (size_t c = 0; c < n_chunks(); ++c) {
    walk_.finish(c, first_scored(), logits);
    sums.push_back(score(c, logits));
  }
  return finish(std::move(sums));
}

Harm HarmMeter::whole(Engine& engine, const std::function<void(size_t chunk)>& before_chunk) {
  const auto session = engine.new_session(context());
  std::vector<BlockSums> sums;
  std::vector<float> logits(n_scored() * engine.n_vocab());
  for (size_t c = 0; c < n_chunks(); ++c) {
    if (before_chunk) before_chunk(c);
    session->truncate(0);
    engine.forward(*session, walk_.tokens(c), n_scored(), logits);
    sums.push_back(score(c, logits));
  }
  return finish(std::move(sums));
}

Harm HarmMeter::measure_whole(const EngineOptions& options, std::span<const Replacement> replacements,
                              const std::function<void(size_t chunk)>& before_chunk) {
  const auto engine = Engine::make(model_, pool_, options);
  for (const Replacement r : replacements) engine->replace_weight(r->name(), *r);
  return whole(*engine, before_chunk);
}

Harm HarmMeter::measure_model(const Model& other, std::span<const Replacement> replacements) {
  if (other.hparams().n_vocab != model_.hparams().n_vocab)
    fail(ExitCode::kBadInput, "{} has {} tokens, {} has {}: divergence needs one vocabulary", other.path(),
         other.hparams().n_vocab, model_.path(), model_.hparams().n_vocab);
  const auto engine = Engine::make(other, pool_);
  for (const Replacement r : replacements) engine->replace_weight(r->name(), *r);
  return whole(*engine, {});
}

}  // namespace tsubu
