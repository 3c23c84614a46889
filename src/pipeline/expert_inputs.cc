#include "pipeline/expert_inputs.h"

#include "base/progress.h"
#include "engine/engine.h"

namespace tsubu {

std::vector<StatisticsInput> expert_inputs(const Model& model) {
  std::vector<StatisticsInput> inputs;
  for (StatisticsInput& input : statistics_inputs(model, 0, false))
    if (input.n_experts > 0) inputs.push_back(std::move(input));
  return inputs;
}

std::vector<std::vector<float>> expert_mean_squares(const Model& model, const Corpus& corpus,
                                                    const std::vector<StatisticsInput>& inputs, ThreadPool& pool,
                                                    uint64_t& n_unseen) {
  Collector collector(inputs, pool);
  collector.select(0, inputs.size(), false);
  const auto engine = Engine::make(model, pool, {.observer = &collector});
  const auto session = engine->new_session(corpus.context);
  Progress progress("experts", corpus.chunks.size(), "chunks");
  for (const auto& tokens : corpus.chunks) {
    session->truncate(0);
    engine->forward(*session, tokens, 0, {});
    progress.advance(1);
  }
  progress.finish();
  std::vector<std::vector<float>> means(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i)
    for (size_t e = 0; e < inputs[i].n_experts; ++e) {
      const ColumnMoments& m = collector.moments(i, e);
      n_unseen += m.n_tokens() == 0;
      for (double v : m.squares())
        means[i].push_back(m.n_tokens() > 0 ? static_cast<float>(v / static_cast<double>(m.n_tokens())) : 1.0f);
    }
  return means;
}

}  // namespace tsubu
