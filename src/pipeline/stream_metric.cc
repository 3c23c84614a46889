#include "pipeline/stream_metric.h"

#include <algorithm>
#include <map>

#include "calibrate/gram.h"
#include "engine/engine.h"
#include "engine/linear.h"
#include "kernel/kernels.h"

namespace tsubu {
namespace {

constexpr size_t kChunks = 8;  // of the corpus
constexpr size_t kRows = 256;  // of a weight at a time

double mean_square(const std::vector<float>& x) {
  double sum = 0;
  for (float v : x) sum += static_cast<double>(v) * static_cast<double>(v);
  return sum / static_cast<double>(x.size());
}

}  // namespace

std::vector<float> stream_metric(const Model& model, const Corpus& corpus, ThreadPool& pool) {
  const Graph& graph = model.graph();
  const size_t n = model.hparams().n_embd;
  const auto engine = Engine::make(model, pool);
  const auto session = engine->new_session(corpus.context);
  const auto groups = linear_groups(graph);

  // The norms in order, and the stream's size before each of them.
  struct Reader {
    size_t norm_step = 0;
    const Op* norm = nullptr;
    const LinearGroup* group = nullptr;
    double stream = 0;  // mean square of the norm's input
  };
  std::vector<Reader> readers;
  for (const LinearGroup& group : groups) {
    if (group.norm_weight.empty() || graph.widths[static_cast<size_t>(group.input)] != n) continue;
    for (size_t i = 0; i < graph.ops.size(); ++i)
      if (graph.ops[i].output == group.input) readers.push_back({i, &graph.ops[i], &group, 0});
  }
  std::sort(readers.begin(), readers.end(), [](const Reader& a, const Reader& b) { return a.norm_step < b.norm_step; });
  const size_t n_chunks = std::min(kChunks, corpus.chunks.size());
  for (size_t c = 0; c < n_chunks; ++c) {
    std::map<ValueId, std::vector<float>> values;
    size_t at = 0;
    for (Reader& reader : readers) {
      std::map<ValueId, std::vector<float>> next;
      std::vector<StageValue> in, out;
      for (ValueId v : live_values(graph, at)) in.push_back({v, values.at(v).data()});
      for (ValueId v : live_values(graph, reader.norm_step)) {
        auto& data = next[v];
        data.resize(corpus.chunks[c].size() * graph.widths[static_cast<size_t>(v)]);
        out.push_back({v, data.data()});
      }
      engine->run_steps(*session, corpus.chunks[c], at, reader.norm_step, in, out);
      values = std::move(next);
      at = reader.norm_step;
      reader.stream += mean_square(values.at(reader.norm->inputs[0])) / static_cast<double>(n_chunks);
    }
  }

  // Every linear's share: its weights with the gains folded in, as rows of a Gram matrix of their own.
  std::vector<double> metric(n * n);
  std::vector<float> rows(kRows * n), part(n * n);
  for (const Reader& reader : readers) {
    const std::vector<float> gains =
        reader.norm->weight.empty() ? std::vector<float>(n, 1.0f) : read_vector(model.tensor(reader.norm->weight));
    for (const std::string& name : reader.group->linears) {
      const ModelTensor& w = model.tensor(name);
      GramAccumulator gram(n, n, true);
      for (uint64_t first = 0; first < w.n_rows(); first += kRows) {
        const uint64_t n_rows = std::min<uint64_t>(kRows, w.n_rows() - first);
        w.read_rows(first, n_rows, rows.data());
        for (uint64_t r = 0; r < n_rows; ++r)
          for (size_t i = 0; i < n; ++i) rows[r * n + i] *= gains[i];
        gram.add(rows.data(), n, n_rows, pool);
      }
      gram.finish(part);
      // Normalized inputs have mean squares near one, so the trace is the outputs' squared size (its order, not more).
      double trace = 0;
      for (size_t i = 0; i < n; ++i) trace += static_cast<double>(part[i * n + i]);
      const double share = trace > 0 && reader.stream > 0 ? 1.0 / (trace * reader.stream) : 0.0;
      for (size_t i = 0; i < n * n; ++i) metric[i] += share * static_cast<double>(part[i]);
    }
  }
  return {metric.begin(), metric.end()};
}

}  // namespace tsubu
