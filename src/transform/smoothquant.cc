#include "transform/smoothquant.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/progress.h"
#include "kernel/kernels.h"
#include "transform/expert_scales.h"
#include "transform/fold.h"
#include "transform/output_error.h"

namespace tsubu {
namespace {

constexpr double kLeastScale = 1e-5;
constexpr float kMostCode = 127;

std::vector<double> smoothing_scales(std::span<const double> x, std::span<const double> w, double alpha) {
  std::vector<double> s(x.size());
  for (size_t c = 0; c < s.size(); ++c) {
    const double v = std::pow(x[c], alpha) / std::pow(std::max(w[c], kLeastScale), 1 - alpha);
    s[c] = std::isfinite(v) ? std::max(v, kLeastScale) : 1;
  }
  return s;
}

// max over rows of |W| by column, over matrices.
std::vector<double> weight_maxima(const std::vector<ModelTensor>& matrices, size_t n_cols) {
  std::vector<double> most(n_cols);
  std::vector<float> row(n_cols);
  for (const ModelTensor& tensor : matrices) {
    for (uint64_t r = 0; r < tensor.n_rows(); ++r) {
      tensor.read_rows(r, 1, row.data());
      for (size_t c = 0; c < n_cols; ++c) most[c] = std::max(most[c], static_cast<double>(std::fabs(row[c])));
    }
  }
  return most;
}

double outlier_ratio(std::span<const double> x, std::span<const double> scales) {
  std::vector<double> scaled(x.begin(), x.end());
  for (size_t c = 0; c < scaled.size() && !scales.empty(); ++c) scaled[c] /= scales[c];
  std::sort(scaled.begin(), scaled.end());
  const double median = scaled[scaled.size() / 2];
  return median > 0 ? scaled.back() / median : 0;
}

// Rows of x scaled by f(scale) and rounded to 8 bits, each row with its own step, as floats.
std::vector<float> rounded_rows(const std::vector<float>& x, std::span<const double> factors, ThreadPool& pool) {
  const size_t n = factors.size();
  std::vector<float> y(x.size());
  pool.parallel_for(x.size() / n, [&](size_t r, int) {
    const float* from = x.data() + r * n;
    float* to = y.data() + r * n;
    float most = 0;
    for (size_t c = 0; c < n; ++c) {
      to[c] = static_cast<float>(static_cast<double>(from[c]) * factors[c]);
      most = std::max(most, std::fabs(to[c]));
    }
    if (most == 0) return;
    const float step = most / kMostCode;
    for (size_t c = 0; c < n; ++c) to[c] = std::nearbyint(to[c] / step) * step;
  });
  return y;
}

std::vector<float> products(const std::vector<float>& x, const SampledRows& w, const std::vector<float>& weights,
                            ThreadPool& pool) {
  const size_t n = w.n_cols, n_tokens = x.size() / n;
  std::vector<float> y(n_tokens * w.n_rows);
  constexpr size_t kTokens = 16;
  pool.parallel_for((n_tokens + kTokens - 1) / kTokens, [&](size_t item, int) {
    const size_t first = item * kTokens, count = std::min(kTokens, n_tokens - first);
    kernels().gemm_nt(weights.data(), n, x.data() + first * n, n, y.data() + first * w.n_rows, w.n_rows, w.n_rows,
                      count, n);
  });
  return y;
}

struct Reference {
  SampledRows rows;
  std::vector<float> outputs;
};

double w8a8_error(const std::vector<Reference>& references, const std::vector<float>& samples,
                  std::span<const double> scales, ThreadPool& pool) {
  std::vector<double> inverse(scales.begin(), scales.end());
  for (double& v : inverse) v = 1 / v;
  const std::vector<float> x = rounded_rows(samples, inverse, pool);
  double error = 0, square = 0;
  for (const Reference& reference : references) {
    const std::vector<float> y = products(x, reference.rows, rounded_rows(reference.rows.values, scales, pool), pool);
    for (size_t i = 0; i < y.size(); ++i) {
      const auto want = static_cast<double>(reference.outputs[i]), d = static_cast<double>(y[i]) - want;
      error += d * d / reference.rows.share;
      square += want * want / reference.rows.share;
    }
  }
  return square > 0 ? error / square : 0;
}

// One input of linears: the scales of the given α, or of the best one.
struct Smoothing {
  double alpha = 0, error_before = 0, error = 0;
  std::vector<double> scales;  // empty where none are better
};

Smoothing smooth(const std::vector<ModelTensor>& matrices, const Activations& a, std::span<const double> x, std::span<const double> w,
                 const SmoothquantOptions& options, size_t max_rows, ThreadPool& pool) {
  Smoothing best;
  if (options.alpha) {
    best.scales = smoothing_scales(x, w, *options.alpha);
    best.alpha = *options.alpha;
    best.error_before = outlier_ratio(a.max_abs, {});
    best.error = outlier_ratio(a.max_abs, best.scales);
    return best;
  }
  std::vector<Reference> references;
  for (const ModelTensor& matrix : matrices) {
    Reference r{sample_rows(matrix, max_rows), {}};
    r.outputs = products(a.samples, r.rows, r.rows.values, pool);
    references.push_back(std::move(r));
  }
  best.error_before = best.error = w8a8_error(references, a.samples, std::vector<double>(a.n_cols, 1.0), pool);
  for (int i = 0; i <= options.n_grid; ++i) {
    throw_if_interrupted();
    const double alpha = static_cast<double>(i) / options.n_grid;
    std::vector<double> scales = smoothing_scales(x, w, alpha);
    const double error = w8a8_error(references, a.samples, scales, pool);
    if (error >= best.error) continue;
    best.error = error;
    best.alpha = alpha;
    best.scales = std::move(scales);
  }
  return best;
}

}  // namespace

void apply_smoothquant(EditableModel& model, const ActivationSource& source, const SmoothquantOptions& options,
                       ThreadPool& pool, TransformReport& report) {
  const bool searched = !options.alpha.has_value();
  if (searched && !source.corpus)
    fail(ExitCode::kUsage, "smoothquant: α is searched on activations: expected --text, or --alpha with --stats");
  const ActivationNeeds needs{.gram = false, .n_samples = searched ? options.max_samples : 0};
  std::vector<std::pair<FoldableGroup, std::vector<double>>> folds;
  ExpertScales of_experts;
  ExpertVisit visit;
  visit.groups = foldable_experts(model.graph());
  visit.see = [&](const FoldableExperts& group, size_t expert, const Activations& a) {
    if (a.n_tokens < kFewestTokens) return;
    std::vector<ModelTensor> matrices;
    for (const std::string& name : group.linears) matrices.push_back(model.tensor(name).matrix(expert));
    const Smoothing best = smooth(matrices, a, a.max_abs, weight_maxima(matrices, a.n_cols), options,
                                  std::max<size_t>(1, options.max_rows / 4), pool);
    of_experts.add(group, expert, {{}, best.alpha, best.error_before, best.error}, best.scales);
  };
  visit_activations(model, foldable_groups(model.graph()), source, needs, pool,
                    [&](const FoldableGroup& group, const Activations& a) {
                      std::vector<ModelTensor> matrices;
                      for (const auto* linears : {&group.linears, &group.experts})
                        for (const std::string& name : *linears) matrices.push_back(model.tensor(name));
                      std::vector<double> x = a.max_abs, w = weight_maxima(matrices, a.n_cols);
                      tie_channels(group, Tie::kMax, x);
                      tie_channels(group, Tie::kMax, w);
                      Smoothing best = smooth(matrices, a, x, w, options, options.max_rows, pool);
                      TransformedGroup result{group.linears, best.alpha, best.error_before, best.error};
                      result.linears.insert(result.linears.end(), group.experts.begin(), group.experts.end());
                      if (!best.scales.empty()) folds.emplace_back(group, std::move(best.scales));
                      report.groups.push_back(std::move(result));
                    }, source.statistics ? nullptr : &visit);
  for (const auto& [group, scales] : folds) fold_scales(model, group, scales, pool);
  of_experts.fold(model, visit.groups, without_scales(source), pool, report);
}

}  // namespace tsubu
