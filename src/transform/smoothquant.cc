#include "transform/smoothquant.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/progress.h"
#include "kernel/kernels.h"
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

// max over rows of |W| by column, over the group's linears.
std::vector<double> weight_maxima(const EditableModel& model, const LinearGroup& group, size_t n_cols) {
  std::vector<double> most(n_cols);
  std::vector<float> row(n_cols);
  for (const std::string& name : group.linears) {
    const ModelTensor& tensor = model.tensor(name);
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

}  // namespace

void apply_smoothquant(EditableModel& model, const ActivationSource& source, const SmoothquantOptions& options,
                       ThreadPool& pool, TransformReport& report) {
  const bool searched = !options.alpha.has_value();
  if (searched && !source.corpus)
    fail(ExitCode::kUsage, "smoothquant: α is searched on activations: expected --text, or --alpha with --stats");
  const ActivationNeeds needs{.gram = false, .n_samples = searched ? options.max_samples : 0};
  std::vector<std::pair<LinearGroup, std::vector<double>>> folds;
  visit_activations(model, foldable_groups(model.graph()), source, needs, pool,
                    [&](const LinearGroup& group, const Activations& a) {
                      std::vector<double> x = a.max_abs, w = weight_maxima(model, group, a.n_cols);
                      tie_channels(group, Tie::kMax, x);
                      tie_channels(group, Tie::kMax, w);
                      TransformedGroup result{group.linears};
                      std::vector<double> best;
                      if (!searched) {
                        best = smoothing_scales(x, w, *options.alpha);
                        result.alpha = *options.alpha;
                        result.error_before = outlier_ratio(a.max_abs, {});
                        result.error = outlier_ratio(a.max_abs, best);
                      } else {
                        std::vector<Reference> references;
                        for (const std::string& linear : group.linears) {
                          Reference r{sample_rows(model.tensor(linear), options.max_rows), {}};
                          r.outputs = products(a.samples, r.rows, r.rows.values, pool);
                          references.push_back(std::move(r));
                        }
                        result.error_before = result.error =
                            w8a8_error(references, a.samples, std::vector<double>(a.n_cols, 1.0), pool);
                        for (int i = 0; i <= options.n_grid; ++i) {
                          throw_if_interrupted();
                          const double alpha = static_cast<double>(i) / options.n_grid;
                          std::vector<double> scales = smoothing_scales(x, w, alpha);
                          const double error = w8a8_error(references, a.samples, scales, pool);
                          if (error >= result.error) continue;
                          result.error = error;
                          result.alpha = alpha;
                          best = std::move(scales);
                        }
                      }
                      if (!best.empty()) folds.emplace_back(group, std::move(best));
                      report.groups.push_back(std::move(result));
                    });
  for (const auto& [group, scales] : folds) fold_scales(model, group, scales, pool);
}

}  // namespace tsubu
