#include "lens/sensitivity.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/progress.h"

namespace tsubu {
namespace {

constexpr double kTargetKld = 1e-3;  // where a probe is repeated
constexpr double kLeastR = 1e-3, kMostR = 0.5;

Harm probe(const ModelTensor& tensor, const Perturbation& perturbation, HarmMeter& meter, ThreadPool& pool, double& r) {
  const PerturbedTensor changed = perturb(tensor, perturbation, nullptr, pool);
  const ModelTensor replaced(tensor.spec(), type_named("F32"), std::as_bytes(std::span(changed.values)));
  const Replacement replacement = &replaced;
  r = changed.r;
  return meter.measure({&replacement, 1});
}

// Standard error of ln(mean) over chunks.
double log_error(const Harm& harm) {
  const auto n = static_cast<double>(harm.chunks.size());
  if (n < 2 || harm.kld <= 0) return 0;
  double squares = 0;
  for (const BlockSums& c : harm.chunks) squares += std::pow(c.kld / c.n / harm.kld - 1, 2);
  return std::sqrt(squares / (n - 1) / n);
}

Sensitivity measure(const ModelTensor& tensor, const SensitivityOptions& o, HarmMeter& meter, ThreadPool& pool) {
  Sensitivity s;
  s.tensor = &tensor;
  Perturbation perturbation = o.probe;
  perturbation.r = o.r;
  double sum = 0;
  for (uint32_t i = 0; i < o.n_seeds; ++i) {
    perturbation.seed = o.probe.seed + i;
    Harm harm = probe(tensor, perturbation, meter, pool, s.r);
    if (i == 0 && s.r > 0 && (harm.kld < o.least_kld || harm.kld > o.most_kld)) {
      const double better = perturbation.r * std::sqrt(kTargetKld / std::max(harm.kld, 1e-12));
      perturbation.r = std::clamp(better, kLeastR, kMostR);
      harm = probe(tensor, perturbation, meter, pool, s.r);
    }
    s.kld = harm.kld;
    s.top1 = harm.top1;
    s.spread = log_error(harm);
    if (s.r > 0) sum += harm.kld / (s.r * s.r);
  }
  s.alpha = sum / o.n_seeds;
  return s;
}

}  // namespace

std::vector<Sensitivity> sensitivities(const Model& model, HarmMeter& meter, const SensitivityOptions& options,
                                       ThreadPool& pool, const GroupVisitor& visit,
                                       const std::function<void(const Sensitivity&)>& done,
                                       const std::function<bool(const ModelTensor&)>& skip) {
  const Graph& graph = model.graph();
  std::set<std::string> seen;
  std::vector<const ModelTensor*> tables;
  uint64_t n_tensors = 0;
  for (const Op& op : graph.ops) {
    if (op.kind == OpKind::kEmbed && seen.insert(op.weight).second) tables.push_back(&model.tensor(op.weight));
    if (is_linear(op)) ++n_tensors;
  }
  Progress progress("probe", n_tensors + tables.size(), "tensors");
  std::vector<Sensitivity> all;
  const auto take = [&](const ModelTensor& tensor) {
    throw_if_interrupted();
    if (!skip || !skip(tensor)) {
      all.push_back(measure(tensor, options, meter, pool));
      if (done) done(all.back());
    }
    progress.advance(1, tensor.name());
  };
  meter.rewind();
  for (const ModelTensor* table : tables)
    if (table->spec().quantizable) take(*table);
  for (const ReadGroup& group : read_groups(graph)) {
    meter.advance(group.step);
    if (visit) visit(group, meter);
    for (const Op* op : group.linears)
      if (model.tensor(op->weight).spec().quantizable && seen.insert(op->weight).second) take(model.tensor(op->weight));
  }
  progress.finish();
  return all;
}

}  // namespace tsubu
