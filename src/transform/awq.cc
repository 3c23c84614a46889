#include "transform/awq.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "base/error.h"
#include "base/progress.h"
#include "kernel/kernels.h"
#include "transform/expert_scales.h"
#include "transform/fold.h"

namespace tsubu {
namespace {

constexpr double kLeastScale = 1e-4;
constexpr int kClipSteps = 10;  // bounds 1 - i/20 of the largest: down to 0.55
constexpr double kClipStep = 0.05;

// s = x^α over √(max·min) of them, so that scales lie around one.
std::vector<double> awq_scales(std::span<const double> magnitude, double alpha) {
  std::vector<double> s(magnitude.size());
  for (size_t c = 0; c < s.size(); ++c) s[c] = std::max(std::pow(magnitude[c], alpha), kLeastScale);
  const auto [least, most] = std::minmax_element(s.begin(), s.end());
  const double middle = std::sqrt(*least * *most);
  for (double& v : s) v /= middle;
  return s;
}

// The type a weight will have, when it is one that rounds whole rows of it.
const TypeInfo* target_type(const EditableModel& model, const AwqOptions& options, const std::string& name) {
  const TypeInfo* type = options.type_of ? options.type_of(name) : nullptr;
  if (!type || !type->is_quantized || !kernels().encode[type->index]) return nullptr;
  return model.tensor(name).n_cols() % type->block_len == 0 ? type : nullptr;
}

// How a weight will be rounded, if it will.
std::optional<RoundingTarget> rounding_target(const EditableModel& model, const AwqOptions& options, const std::string& name) {
  if (options.rounding_of) {
    RowRounding round = options.rounding_of(name);
    if (!round) return {};
    return RoundingTarget{nullptr, options.importance, std::move(round)};
  }
  const TypeInfo* type = target_type(model, options, name);
  if (!type) return {};
  return RoundingTarget{type, options.importance};
}

struct Target {
  SampledRows rows;
  RoundingTarget rounding;
};

std::vector<Target> targets_of(const EditableModel& model, const FoldableGroup& group, const AwqOptions& options) {
  std::vector<Target> targets;
  for (const auto* linears : {&group.linears, &group.experts})
    for (const std::string& linear : *linears)
      if (std::optional<RoundingTarget> rounding = rounding_target(model, options, linear))
        targets.push_back({sample_rows(model.tensor(linear), options.max_rows), std::move(*rounding)});
  return targets;
}

std::vector<Target> targets_of_expert(const EditableModel& model, const FoldableExperts& group, size_t expert, const AwqOptions& options) {
  std::vector<Target> targets;
  for (const std::string& linear : group.linears)
    if (std::optional<RoundingTarget> rounding = rounding_target(model, options, linear))
      targets.push_back({sample_rows(model.tensor(linear).matrix(expert), std::max<size_t>(1, options.max_rows / 4)), std::move(*rounding)});
  return targets;
}

// The α of least error for linears that read one input. Errors relative to the outputs; scales: empty where α = 0 is best.
struct AlphaSearch {
  double alpha = 0, error_before = 0, error = 0;
  std::vector<double> scales;
};

AlphaSearch search_alpha(const std::vector<Target>& targets, const Activations& a, std::span<const double> magnitude, int n_grid,
                         ThreadPool& pool) {
  double output = 0;
  for (const Target& t : targets) output += output_square(t.rows, a, pool);
  AlphaSearch best;
  for (int i = 0; i < n_grid; ++i) {
    throw_if_interrupted();
    const double alpha = static_cast<double>(i) / n_grid;
    std::vector<double> scales = awq_scales(magnitude, alpha);
    double error = 0;
    for (const Target& t : targets) error += scaled_rounding_error(t.rows, t.rounding, a, scales, pool) / output;
    if (i == 0) best.error_before = best.error = error;
    if (error < best.error) {
      best.error = error;
      best.alpha = alpha;
      best.scales = std::move(scales);
    }
  }
  return best;
}

void note_unrounded(const EditableModel& model, const std::vector<FoldableGroup>& groups, const AwqOptions& options,
                    TransformReport& report) {
  size_t without = 0;
  const auto is_rounded = [&](const std::string& name) { return rounding_target(model, options, name).has_value(); };
  for (const FoldableGroup& group : groups)
    without += std::none_of(group.linears.begin(), group.linears.end(), is_rounded) &&
               std::none_of(group.experts.begin(), group.experts.end(), is_rounded);
  if (without > 0)
    report.notes.push_back(fmt::format("{} of {} groups were left alone: none of their matrices gets a quantized type",
                                       without, groups.size()));
}

// The better of the clipped and the whole blocks of one row: replaces the row's values, returns the two errors.
struct RowErrors {
  double before = 0, after = 0;
};

RowErrors clip_row(std::span<double> row, const TypeInfo& type, const float* importance, const Activations& a) {
  const size_t n = row.size(), len = type.block_len;
  thread_local std::vector<float> w, clipped, best, d, product;
  thread_local std::vector<std::byte> blocks;
  thread_local std::vector<double> best_error;
  w.assign(row.begin(), row.end());
  best = clipped = w;
  d.resize(n);
  product.resize(len);
  blocks.resize(n / len * type.block_bytes);
  best_error.assign(n / len, 0);
  RowErrors errors;
  for (int step = 0; step < kClipSteps; ++step) {
    for (size_t b = 0; b < n; b += len) {
      float most = 0;
      for (size_t c = b; c < b + len; ++c) most = std::max(most, std::fabs(w[c]));
      const float bound = most * static_cast<float>(1 - kClipStep * step);
      for (size_t c = b; c < b + len; ++c) clipped[c] = std::clamp(w[c], -bound, bound);
    }
    kernels().encode[type.index](clipped.data(), importance, blocks.data(), n);
    kernels().decode[type.index](blocks.data(), d.data(), n);
    for (size_t c = 0; c < n; ++c) d[c] -= w[c];
    for (size_t b = 0; b < n; b += len) {
      kernels().gemm_nt(a.gram.data() + b * n + b, n, d.data() + b, n, product.data(), len, len, 1, len);
      const auto error = static_cast<double>(kernels().dot(d.data() + b, product.data(), len));
      if (step == 0) errors.before += error;
      if (step == 0 || error < best_error[b / len]) {
        best_error[b / len] = error;
        std::copy_n(clipped.begin() + static_cast<std::ptrdiff_t>(b), len,
                    best.begin() + static_cast<std::ptrdiff_t>(b));
      }
    }
  }
  for (double e : best_error) errors.after += e;
  std::copy(best.begin(), best.end(), row.begin());
  return errors;
}

}  // namespace

void apply_awq(EditableModel& model, const ActivationSource& source, const AwqOptions& options, ThreadPool& pool,
               TransformReport& report) {
  const std::vector<FoldableGroup> groups = foldable_groups(model.graph());
  note_unrounded(model, groups, options, report);
  std::vector<std::pair<FoldableGroup, std::vector<double>>> folds;
  ExpertScales of_experts;
  ExpertVisit visit{foldable_experts(model.graph()), options.expert_memory, {}};
  std::erase_if(visit.groups, [&](const FoldableExperts& g) {
    return std::none_of(g.linears.begin(), g.linears.end(),
                        [&](const std::string& name) { return rounding_target(model, options, name).has_value(); });
  });
  visit.see = [&](const FoldableExperts& group, size_t expert, const Activations& a) {
    if (a.n_tokens < kFewestTokens) return;
    AlphaSearch best = search_alpha(targets_of_expert(model, group, expert, options), a, a.mean_abs, options.n_grid, pool);
    of_experts.add(group, expert, {{}, best.alpha, best.error_before, best.error}, best.scales);
  };
  visit_activations(model, groups, source, {.gram = true}, pool, [&](const FoldableGroup& group, const Activations& a) {
    const std::vector<Target> targets = targets_of(model, group, options);
    if (targets.empty()) return;
    std::vector<double> magnitude = a.mean_abs;
    tie_channels(group, Tie::kMean, magnitude);
    AlphaSearch best = search_alpha(targets, a, magnitude, options.n_grid, pool);
    TransformedGroup result{group.linears, best.alpha, best.error_before, best.error};
    result.linears.insert(result.linears.end(), group.experts.begin(), group.experts.end());
    if (!best.scales.empty()) folds.emplace_back(group, std::move(best.scales));
    report.groups.push_back(std::move(result));
  }, source.statistics ? nullptr : &visit);
  for (const auto& [group, scales] : folds) fold_scales(model, group, scales, pool);
  of_experts.fold(model, visit.groups, without_scales(source), pool, report);
}

void apply_clipping(EditableModel& model, const ActivationSource& source, const AwqOptions& options, ThreadPool& pool,
                    TransformReport& report) {
  std::vector<FoldableGroup> groups;
  for (LinearGroup& group : linear_groups(model.graph()))
    if (group.layer >= 0) groups.push_back({std::move(group), {}});
  visit_activations(model, groups, source, {.gram = true}, pool, [&](const FoldableGroup& group, const Activations& a) {
    std::vector<float> importance(a.mean_squares.begin(), a.mean_squares.end());
    for (const std::string& name : group.linears) {
      const Role role = model.tensor(name).spec().role;
      const TypeInfo* type = target_type(model, options, name);
      if (!type || role == Role::kAttnQ || role == Role::kAttnK || role == Role::kAttnQkv) continue;
      throw_if_interrupted();
      const double output = output_square(sample_rows(model.tensor(name), model.tensor(name).n_rows()), a, pool);
      std::vector<RowErrors> errors(model.tensor(name).n_rows());
      model.edit_rows(name, pool, [&](uint64_t r, std::span<double> row) {
        errors[r] = clip_row(row, *type, options.importance ? importance.data() : nullptr, a);
      });
      TransformedGroup result{{name}};
      for (const RowErrors& e : errors) {
        result.error_before += e.before / output;
        result.error += e.after / output;
      }
      report.groups.push_back(std::move(result));
    }
  });
}

}  // namespace tsubu
