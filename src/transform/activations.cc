#include "transform/activations.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <optional>

#include "base/error.h"
#include "base/progress.h"
#include "calibrate/gram.h"
#include "engine/engine.h"

namespace tsubu {
namespace {

// Sums over the inputs of one block's groups.
class BlockObserver : public LinearObserver {
 public:
  BlockObserver(const ActivationNeeds& needs, size_t sample_step, ThreadPool& pool)
      : needs_(needs), sample_step_(sample_step), pool_(pool), scratch_(std::make_shared<GramScratch>()) {}

  void start(const Graph& graph, const std::vector<const FoldableGroup*>& groups) {
    inputs_.clear();
    for (const FoldableGroup* group : groups) add_input({group->linears.front(), 0}, graph.widths[static_cast<size_t>(group->input)], sample_step_);
  }
  void add_expert(const FoldableExperts& group, size_t expert) {
    // The step that gives as many samples, if all experts are used alike.
    add_input({group.linears.front(), expert}, group.n_cols, std::max<size_t>(1, sample_step_ * group.n_used / group.n_experts));
  }

  void on_linear_input(const Op& op, const float* x, size_t n_tokens, size_t n_cols) override { see({op.weight, 0}, x, n_tokens, n_cols); }
  void on_expert_input(const Op& op, size_t expert, const float* x, size_t n_tokens, size_t n_cols) override {
    see({op.weight, expert}, x, n_tokens, n_cols);
  }

  void forget(const std::string& linear, size_t expert) { inputs_.erase({linear, expert}); }
  uint64_t n_tokens(const std::string& linear, size_t expert) const { return inputs_.at({linear, expert}).moments.n_tokens(); }

  Activations take(const std::string& linear, size_t expert = 0) {
    Input& input = inputs_.at({linear, expert});
    const auto n_tokens = static_cast<double>(input.moments.n_tokens());
    Activations a;
    a.n_cols = input.moments.n_cols();
    a.n_tokens = input.moments.n_tokens();
    for (size_t c = 0; c < a.n_cols; ++c) {
      a.mean_abs.push_back(input.sum_abs[c] / n_tokens);
      a.mean_squares.push_back(input.moments.squares()[c] / n_tokens);
      a.max_abs.push_back(static_cast<double>(input.moments.max_abs()[c]));
      if (!std::isfinite(a.mean_squares[c]))
        fail(ExitCode::kNumeric, "the input of {} is not finite: the model is damaged, or its activations overflow", linear);
    }
    if (input.gram) {
      a.gram.resize(a.n_cols * a.n_cols);
      input.gram->finish(a.gram);
      input.gram.reset();
      for (float& v : a.gram) v = static_cast<float>(static_cast<double>(v) / n_tokens);
    }
    a.samples = std::move(input.samples);
    inputs_.erase({linear, expert});
    return a;
  }

 private:
  struct Input {
    Input(size_t n, size_t step) : moments(n), sum_abs(n), sample_step(step) {}
    ColumnMoments moments;
    std::vector<double> sum_abs;
    std::unique_ptr<GramAccumulator> gram;
    std::vector<float> samples;
    size_t sample_step = 1, n_seen = 0;
  };
  using Key = std::pair<std::string, size_t>;  // a group's first linear; which expert

  void add_input(const Key& key, size_t n, size_t step) {
    Input& input = inputs_.try_emplace(key, n, step).first->second;
    if (needs_.gram) input.gram = std::make_unique<GramAccumulator>(n, n, true, scratch_);
  }

  void see(const Key& key, const float* x, size_t n_tokens, size_t n_cols) {
    const auto it = inputs_.find(key);
    if (it == inputs_.end() || n_tokens == 0) return;
    Input& input = it->second;
    for (size_t t = 0; t < n_tokens; ++t) {
      const float* row = x + t * n_cols;
      for (size_t c = 0; c < n_cols; ++c) input.sum_abs[c] += static_cast<double>(std::fabs(row[c]));
      if (needs_.n_samples > 0 && input.n_seen++ % input.sample_step == 0)
        input.samples.insert(input.samples.end(), row, row + n_cols);
    }
    input.moments.add(x, n_cols, n_tokens, pool_);
    if (input.gram) input.gram->add(x, n_cols, n_tokens, pool_);
  }

  ActivationNeeds needs_;
  size_t sample_step_;
  ThreadPool& pool_;
  std::shared_ptr<GramScratch> scratch_;
  std::map<Key, Input> inputs_;
};

// Experts of one run of a block: as many as the memory allows.
using ExpertBatch = std::vector<std::pair<const FoldableExperts*, size_t>>;

std::vector<ExpertBatch> batches_of(const ExpertVisit* visit, size_t block, bool gram) {
  std::vector<ExpertBatch> batches(1);
  if (!visit) return batches;
  uint64_t bytes = 0;
  for (const FoldableExperts& group : visit->groups) {
    if (group.layer != static_cast<int>(block)) continue;
    const uint64_t each = gram ? GramAccumulator::size_bytes(group.n_cols, group.n_cols, true) : 0;
    for (size_t e = 0; e < group.n_experts; ++e, bytes += each) {
      if (!batches.back().empty() && bytes + each > visit->memory) {
        batches.emplace_back();
        bytes = 0;
      }
      batches.back().emplace_back(&group, e);
    }
  }
  return batches;
}

Activations from_statistics(const Statistics& statistics, const LinearGroup& group, size_t n_cols, bool gram) {
  const std::string& name = group.linears.front();
  if (!statistics.has(name) || statistics.n_cols(name) != n_cols)
    fail(ExitCode::kBadInput,
         "{}: {}: expected statistics of {} columns, found {} (were they made with another model?)", statistics.path(),
         name, n_cols, statistics.has(name) ? fmt::format("{}", statistics.n_cols(name)) : "none");
  const std::vector<std::string> sharing = statistics.sharing(name);
  if (sharing.empty())
    fail(ExitCode::kUsage, "{}: no maxima and Gram matrices of {} (make the file with tsubu calibrate --gram)",
         statistics.path(), name);
  Activations a;
  a.n_cols = n_cols;
  const std::vector<float> squares = statistics.mean_squares(name), maxima = statistics.max_abs(name);
  a.mean_squares.assign(squares.begin(), squares.end());
  a.max_abs.assign(maxima.begin(), maxima.end());
  for (float s : squares) a.mean_abs.push_back(std::sqrt(static_cast<double>(s)));
  if (gram) {
    a.gram = statistics.gram(name);
    const auto n_tokens = static_cast<double>(std::max<uint64_t>(1, statistics.n_tokens(name)));
    for (float& v : a.gram) v = static_cast<float>(static_cast<double>(v) / n_tokens);
  }
  return a;
}

}  // namespace

std::string without_scales(const ActivationSource& source) {
  return source.statistics ? "have no Gram matrices and maxima in a statistics file" : fmt::format("got fewer than {} tokens", kFewestTokens);
}

void visit_activations(const Model& model, const std::vector<FoldableGroup>& groups, const ActivationSource& source,
                       const ActivationNeeds& needs, ThreadPool& pool,
                       const std::function<void(const FoldableGroup&, const Activations&)>& see, const ExpertVisit* experts) {
  const Graph& graph = model.graph();
  if (source.statistics) {
    for (const FoldableGroup& group : groups)
      see(group,
          from_statistics(*source.statistics, group, graph.widths[static_cast<size_t>(group.input)], needs.gram));
    return;
  }
  if (!source.corpus) fail(ExitCode::kUsage, "this transform looks at activations: expected --text or --stats");
  const Corpus& corpus = *source.corpus;
  const size_t step =
      needs.n_samples ? std::max<uint64_t>(1, (corpus.n_tokens() + needs.n_samples - 1) / needs.n_samples) : 1;
  BlockObserver observer(needs, step, pool);
  EngineOptions options;
  options.observer = &observer;
  const auto engine = Engine::make(model, pool, options);
  const size_t width = engine->stream_width();
  if (width == 0)
    fail(ExitCode::kUnsupported, "{}: more than one value passes from block to block: it cannot be run by blocks",
         model.path());
  const auto session = engine->new_session(corpus.context);
  std::vector<std::vector<float>> streams(corpus.chunks.size(), std::vector<float>(corpus.context * width));
  std::vector<float> again;         // a chunk's stream before a block that is run once more
  std::vector<Activations> dense;
  Progress progress("activations", engine->n_blocks() * corpus.n_tokens(), "tokens·blocks");
  for (size_t block = 0; block < engine->n_blocks(); ++block) {
    std::vector<const FoldableGroup*> here;
    for (const FoldableGroup& group : groups)
      if (group.layer == static_cast<int>(block)) here.push_back(&group);
    observer.start(graph, here);
    const std::vector<ExpertBatch> batches = batches_of(experts, block, needs.gram);
    for (size_t b = 0; b < batches.size(); ++b) {
      if (b == 1)  // the dense linears have been seen
        for (const FoldableGroup* group : here) dense.push_back(observer.take(group->linears.front()));
      for (const auto& [group, expert] : batches[b]) observer.add_expert(*group, expert);
      const bool is_last = b + 1 == batches.size();
      for (size_t i = 0; i < corpus.chunks.size(); ++i) {
        throw_if_interrupted();
        session->truncate(0);
        if (!is_last) again = streams[i];
        engine->forward_blocks(*session, corpus.chunks[i], block, block + 1, is_last ? streams[i] : again);
        if (is_last) progress.advance(corpus.context);
      }
      for (const auto& [group, expert] : batches[b]) {
        if (observer.n_tokens(group->linears.front(), expert) > 0) experts->see(*group, expert, observer.take(group->linears.front(), expert));
        observer.forget(group->linears.front(), expert);
      }
    }
    for (size_t g = 0; g < here.size(); ++g)
      see(*here[g], batches.size() > 1 ? dense[g] : observer.take(here[g]->linears.front()));
    dense.clear();
  }
  progress.finish();
}

}  // namespace tsubu
