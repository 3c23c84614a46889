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

  void start(const Graph& graph, const std::vector<const LinearGroup*>& groups) {
    inputs_.clear();
    for (const LinearGroup* group : groups) {
      const size_t n = graph.widths[static_cast<size_t>(group->input)];
      Input& input = inputs_.try_emplace(group->linears.front(), n).first->second;
      if (needs_.gram) input.gram = std::make_unique<GramAccumulator>(n, n, true, scratch_);
    }
  }

  void on_linear_input(const Op& op, const float* x, size_t n_tokens, size_t n_cols) override {
    const auto it = inputs_.find(op.weight);
    if (it == inputs_.end()) return;
    Input& input = it->second;
    for (size_t t = 0; t < n_tokens; ++t) {
      const float* row = x + t * n_cols;
      for (size_t c = 0; c < n_cols; ++c) input.sum_abs[c] += static_cast<double>(std::fabs(row[c]));
      if (needs_.n_samples > 0 && input.n_seen++ % sample_step_ == 0)
        input.samples.insert(input.samples.end(), row, row + n_cols);
    }
    input.moments.add(x, n_cols, n_tokens, pool_);
    if (input.gram) input.gram->add(x, n_cols, n_tokens, pool_);
  }

  Activations take(const LinearGroup& group) {
    Input& input = inputs_.at(group.linears.front());
    const auto n_tokens = static_cast<double>(input.moments.n_tokens());
    Activations a;
    a.n_cols = input.moments.n_cols();
    for (size_t c = 0; c < a.n_cols; ++c) {
      a.mean_abs.push_back(input.sum_abs[c] / n_tokens);
      a.mean_squares.push_back(input.moments.squares()[c] / n_tokens);
      a.max_abs.push_back(static_cast<double>(input.moments.max_abs()[c]));
      if (!std::isfinite(a.mean_squares[c]))
        fail(ExitCode::kNumeric, "the input of {} is not finite: the model is damaged, or its activations overflow",
             group.linears.front());
    }
    if (input.gram) {
      a.gram.resize(a.n_cols * a.n_cols);
      input.gram->finish(a.gram);
      input.gram.reset();
      for (float& v : a.gram) v = static_cast<float>(static_cast<double>(v) / n_tokens);
    }
    a.samples = std::move(input.samples);
    return a;
  }

 private:
  struct Input {
    explicit Input(size_t n) : moments(n), sum_abs(n) {}
    ColumnMoments moments;
    std::vector<double> sum_abs;
    std::unique_ptr<GramAccumulator> gram;
    std::vector<float> samples;
    size_t n_seen = 0;
  };
  ActivationNeeds needs_;
  size_t sample_step_;
  ThreadPool& pool_;
  std::shared_ptr<GramScratch> scratch_;
  std::map<std::string, Input> inputs_;  // by the group's first linear
};

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

void visit_activations(const Model& model, const std::vector<LinearGroup>& groups, const ActivationSource& source,
                       const ActivationNeeds& needs, ThreadPool& pool,
                       const std::function<void(const LinearGroup&, const Activations&)>& see) {
  const Graph& graph = model.graph();
  if (source.statistics) {
    for (const LinearGroup& group : groups)
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
  Progress progress("activations", engine->n_blocks() * corpus.n_tokens(), "tokens·blocks");
  for (size_t block = 0; block < engine->n_blocks(); ++block) {
    std::vector<const LinearGroup*> here;
    for (const LinearGroup& group : groups)
      if (group.layer == static_cast<int>(block)) here.push_back(&group);
    observer.start(graph, here);
    for (size_t i = 0; i < corpus.chunks.size(); ++i) {
      throw_if_interrupted();
      session->truncate(0);
      engine->forward_blocks(*session, corpus.chunks[i], block, block + 1, streams[i]);
      progress.advance(corpus.context);
    }
    for (const LinearGroup* group : here) see(*group, observer.take(*group));
  }
  progress.finish();
}

}  // namespace tsubu
