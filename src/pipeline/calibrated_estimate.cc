// How long calibrated rounding takes, before it starts: its multiplications at this machine's measured rates, and what the
// choice of codes costs a weight, which for lattice types (IQ1, IQ2, IQ3) is most of it.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <map>
#include <random>

#include "base/aligned.h"
#include "kernel/kernels.h"
#include "pipeline/calibrated.h"
#include "pipeline/expert_grams.h"
#include "pipeline/rounding_groups.h"
#include "round/curvature.h"

namespace tsubu {
namespace {

// Multiplications: of forward passes and sums, and of the rounding itself. Weights to round, by type.
struct Work {
  double activations = 0, rounding = 0;
  std::map<const TypeInfo*, double> weights;
};

// Experts: the tokens that each gets, once to see what all read and once for the sums; a factor of H for each.
void add_experts(const RoundingGroup& group, const Graph& graph, double tokens, const CalibratedOptions& options, Work& work) {
  const Op& op = *group.linears.front().op;
  const ExpertInput input = expert_input(graph, op);
  const double n = static_cast<double>(input.n_cols), routed = tokens * op.n_used;
  const double shared = op.by_slots ? 0 : 0.5 * routed * n * n;
  work.activations += 0.5 * routed * n * n + shared;
  work.rounding += op.n_experts * n * n * n / 3;
  for (const auto& l : group.linears) {
    const double weights = static_cast<double>(l.plan->tensor->n_elements());
    work.activations += 3 * routed * weights / op.n_experts;
    work.rounding += weights * n * (options.round.descent_passes + 0.5 + 0.5);
    if (can_round(*l.plan->type)) work.weights[l.plan->type] += weights;
  }
}

Work work_of(const Model& model, const std::vector<PlannedTensor>& plan, const Corpus& corpus,
             const CalibratedOptions& options) {
  constexpr double kRecomputed = 1.3;   // of the forward passes, where activations are too wide to be kept
  constexpr double kJudged = 1;         // held-out errors, from some of the rows
  const Graph& graph = model.graph();
  const double tokens = static_cast<double>(corpus.n_tokens());
  Work work;
  for (const RoundingGroup& group : rounding_groups(model, plan)) {
    if (group.is_experts) {
      add_experts(group, graph, tokens, options, work);
      continue;
    }
    const double n = graph.widths[static_cast<size_t>(group.input)];
    work.activations += tokens * n * n * (options.asymmetric ? 1.5 : 0.5);
    for (const auto& l : group.linears) {
      const double weights = static_cast<double>(l.plan->tensor->n_elements());
      if (l.op->output != graph.logits) work.activations += 2 * kRecomputed * tokens * weights;
      if (options.asymmetric && options.residual && l.residual != kNoValue)
        work.activations += tokens * static_cast<double>(l.plan->tensor->n_rows()) * n;
      work.rounding += weights * n * (options.round.descent_passes + 0.5 + (options.asymmetric ? 2 : 0) + kJudged);
      if (can_round(*l.plan->type)) work.weights[l.plan->type] += weights;
      if (options.fisher_tokens == 0 || l.op->output == graph.logits) continue;
      const double block = static_cast<double>(std::min(options.fisher_rows, l.plan->tensor->n_rows()));
      const double gradients = std::min(tokens, static_cast<double>(options.fisher_tokens));
      work.rounding += gradients * (3 * weights + 0.5 * block * static_cast<double>(l.plan->tensor->n_rows()));
      work.rounding += weights * (block * (options.coupled.sweeps + 2) + n * (options.coupled.sweeps + 2));
    }
  }
  if (options.scales) work.rounding += scale_descent_products(model, corpus, *options.scales);
  if (options.fisher_tokens > 0)
    work.rounding += std::min(tokens, static_cast<double>(options.fisher_tokens)) * 2 *
                     static_cast<double>(graph.widths[static_cast<size_t>(graph.logits)]) * model.hparams().n_embd;
  return work;
}

double seconds_of(const std::function<void()>& f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Products a second of f(worker) on every thread.
double rate_of(ThreadPool& pool, double products, const std::function<void(size_t)>& f) {
  double best = 0;
  for (int repeat = 0; repeat < 3; ++repeat) {
    const double took =
        seconds_of([&] { pool.parallel_for(static_cast<size_t>(pool.size()), [&](size_t item, int) { f(item); }); });
    best = std::max(best, pool.size() * products / took);
  }
  return best;
}

// Seconds a weight of choosing codes and scales on every thread, without the products (at `f32` a second).
double codes_seconds(const TypeInfo& type, const RoundOptions& options, double f32, ThreadPool& pool) {
  constexpr size_t kCols = 512, kRowsAThread = 96;
  constexpr double kNeighbors = 0.5;  // correlation of inputs next to each other
  const size_t rows = kRowsAThread * static_cast<size_t>(pool.size());
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> w(rows * kCols);
  for (float& v : w) v = normal(random);
  AlignedVector<float> gram(kCols * kCols);
  for (size_t i = 0; i < kCols; ++i)
    for (size_t j = 0; j < kCols; ++j)
      gram[i * kCols + j] = static_cast<float>(std::pow(kNeighbors, i < j ? j - i : i - j));
  const Curvature curvature(std::move(gram), kCols, 1, 0.01, pool);
  std::vector<std::byte> out(rows * kCols / type.block_len * type.block_bytes);
  const double took = seconds_of([&] { round_rows(w.data(), rows, type, curvature, options, out.data(), pool); });
  const double products = static_cast<double>(kCols) * (options.descent_passes + (options.feedback ? 0.5 : 0)) / f32;
  return std::max(0.0, took / static_cast<double>(rows * kCols) - products);
}

}  // namespace

Products choose_products(const Model& model, const std::vector<PlannedTensor>& plan, const Corpus& corpus,
                         const CalibratedOptions& options) {
  constexpr double kMinutes = 2e13;
  if (options.products) return *options.products;
  return kernels().native_bf16 && work_of(model, plan, corpus, options).activations > kMinutes ? Products::kBf16
                                                                                               : Products::kF32;
}

double estimate_calibrated_seconds(const Model& model, const std::vector<PlannedTensor>& plan, const Corpus& corpus,
                                   const CalibratedOptions& options, ThreadPool& pool) {
  // A product of (256, 1024) by (1024, 256) on every thread.
  constexpr size_t kSide = 256, kDepth = 1024;
  const double products = static_cast<double>(kSide * kSide * kDepth);
  const AlignedVector<float> a(kSide * kDepth, 1.0f);
  const AlignedVector<uint32_t> pairs(kSide * kDepth / 2, 0x3f803f80);
  std::vector<AlignedVector<float>> c(static_cast<size_t>(pool.size()), AlignedVector<float>(kSide * kSide));
  const Work work = work_of(model, plan, corpus, options);
  const double f32 = rate_of(pool, products, [&](size_t i) {
    kernels().gemm_nt(a.data(), kDepth, a.data(), kDepth, c[i].data(), kSide, kSide, kSide, kDepth);
  });
  double codes = 0;
  for (const auto& [type, weights] : work.weights) codes += weights * codes_seconds(*type, options.round, f32, pool);
  if (choose_products(model, plan, corpus, options) == Products::kF32)
    return codes + (work.activations + work.rounding) / f32;
  const double bf16 = rate_of(pool, products, [&](size_t i) {
    kernels().products_bf16(pairs.data(), kDepth / 2, pairs.data(), kSide / 16, kDepth / 2, kSide, c[i].data(), kSide);
  });
  return codes + work.activations / bf16 + work.rounding / f32;
}

}  // namespace tsubu
