#include "pipeline/fit.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>

#include "base/error.h"
#include "base/progress.h"
#include "base/size.h"
#include "evaluate/correlation.h"
#include "base/draws.h"

namespace tsubu {
namespace {

constexpr double kLeastRatio = 0.25, kMostRatio = 4;  // of one correction of a tensor's sensitivity
constexpr double kSlack = 0.97;                       // a divergence asked for is aimed at a little below

// A file that goes unless it is kept.
class TemporaryFile {
 public:
  explicit TemporaryFile(std::string path) : path_(std::move(path)) {}
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove(path_, ignored);
  }
  const std::string& path() const { return path_; }
  void move_to(const std::string& target) {
    std::error_code error;
    std::filesystem::rename(path_, target, error);
    if (error) fail(ExitCode::kIo, "{}: cannot be renamed to {}: {}", path_, target, error.message());
    path_.clear();
  }

 private:
  std::string path_;
};

struct Attempt {
  FitCandidate candidate;
  Recipe recipe;
  QuantizeResult result;
  std::vector<const TypeInfo*> types;
  std::unique_ptr<TemporaryFile> file;
};

class Fitting {
 public:
  Fitting(const Model& model, const SplitText& text, const FitOptions& options)
      : model_(model), text_(text), o_(options), pool_(options.quantize.n_threads), meter_(model, text.held_out, pool_) {}

  FitResult run() {
    FitResult r;
    r.n_tokens_scored = meter_.n_scored() * meter_.n_chunks();
    r.costs = plan_costs(model_, text_.probes, o_.quantize, planner(), pool_);
    PlanTarget target = o_.target;
    if (target.max_kld > 0) target.max_kld *= kSlack;
    r.plan = refine_plan(model_, text_.probes, o_.quantize, o_.planner, target, r.costs, pool_, &r.refinement);
    attempt(r, plan_recipe(r.costs, r.plan, "plan"), "plan", r.plan.types);
    if (o_.target.max_kld == 0) stock(r);

    Attempt& first = attempts_.front();
    const double measured = first.candidate.measured;
    const Prediction predicted = first.candidate.predicted;
    const bool disagrees = measured < predicted.low || measured > predicted.high;
    const bool misses = o_.target.max_kld > 0 && (measured > o_.target.max_kld || measured < 0.8 * o_.target.max_kld);
    if (disagrees || misses || o_.second_pass) {
      // Within its interval a prediction is off in its level, not in its tensors.
      if (disagrees || o_.second_pass)
        correct(r, first);
      else
        r.costs.gain *= measured / std::max(predicted.mean, 1e-30);
      PlanTarget again = o_.target;
      if (again.max_kld > 0) again.max_kld *= kSlack;
      const Plan second = make_plan(r.costs, o_.planner, again);
      if (second.types != first.types) {
        r.plan = second;
        attempt(r, plan_recipe(r.costs, second, "plan"), "plan, corrected", second.types);
      }
    }
    keep_best(r);
    return r;
  }

 private:
  PlannerOptions planner() const {
    PlannerOptions p = o_.planner;
    if (!p.allowed.empty()) return p;  // other types are not wanted in the file: stock recipes must do with these as well
    for (const Recipe& stock : recipes())
      for (const PlannedTensor& t : assigned(stock))
        if (t.type->encode && t.tensor->spec().quantizable && t.type->bits_per_weight() < 17 && !stock_is_odd(stock) &&
            std::find(p.known.begin(), p.known.end(), t.type) == p.known.end())
          p.known.push_back(t.type);
    return p;
  }
  // Recipes for models trained in few values.
  static bool stock_is_odd(const Recipe& r) {
    const std::string& type = r.default_type;
    return type.starts_with("TQ") || type == "Q1_0" || type == "Q2_0" || type == "F32" || type == "BF16";
  }
  std::vector<PlannedTensor> assigned(const Recipe& recipe) const {
    PlanOptions plan = o_.quantize.plan;
    plan.has_stats = true;
    return assign_types(model_, recipe, plan);
  }

  void attempt(const FitResult& r, Recipe recipe, const std::string& name, std::vector<const TypeInfo*> types) {
    Attempt a;
    a.recipe = std::move(recipe);
    a.types = std::move(types);
    a.file = std::make_unique<TemporaryFile>(fmt::format("{}.tsubu-try-{}", o_.quantize.output, attempts_.size() + 1));
    QuantizeOptions quantize_options = o_.quantize;
    quantize_options.output = a.file->path();
    note(fmt::format("{}: {} ({:.3g} predicted)", name, format_size(r.costs.size_bytes(a.types)),
                     r.costs.predict(a.types).mean));
    a.result = quantize(model_, a.recipe, quantize_options);
    const auto made = Model::open(a.file->path());
    const Harm harm = meter_.measure_model(*made);
    a.candidate.name = name;
    a.candidate.size_bytes = a.result.size_bytes;
    a.candidate.predicted = r.costs.predict(a.types);
    a.candidate.measured = harm.kld;
    a.candidate.measured_ci95 = harm.kld_ci95;
    a.candidate.top1 = harm.top1;
    attempts_.push_back(std::move(a));
  }

  // The stock recipe that fits and is predicted best.
  void stock(const FitResult& r) {
    const Recipe* best = nullptr;
    std::vector<const TypeInfo*> best_types;
    double least = 0;
    for (const Recipe& recipe : recipes()) {
      if (stock_is_odd(recipe) || (recipe.needs_stats && !o_.quantize.stats && !o_.quantize.corpus)) continue;
      const auto types = recipe_types(model_, r.costs, recipe, o_.quantize.plan);
      bool known = true;
      for (size_t t = 0; t < types.size(); ++t) known &= r.costs.tensors[t].find(*types[t]) != nullptr;
      if (!known || quantized_bytes(model_, recipe, o_.quantize) > o_.target.max_bytes) continue;
      const double sum = r.costs.sum(types);
      if (best && sum >= least) continue;
      best = &recipe;
      best_types = types;
      least = sum;
    }
    if (!best) return;
    // Not worth the time where even a prediction that is off by its interval both ways leaves no doubt.
    if (r.costs.predict(best_types).low > r.costs.predict(r.plan.types).high) {
      note(fmt::format("{}, the best stock recipe that fits, is predicted far worse ({:.3g}) and was not made", best->name,
                       r.costs.predict(best_types).mean));
      return;
    }
    attempt(r, *best, best->name, best_types);
  }

  // What each tensor's error costs where the model is now: the divergence that goes when the tensor alone is float again,
  // against what the plan thought it adds.
  void correct(FitResult& r, const Attempt& a) {
    const auto made = Model::open(a.file->path());
    double contributions = 0;
    std::vector<double> ratios;
    Progress progress("correct", r.costs.tensors.size(), "tensors");
    const double all = a.candidate.measured;
    for (size_t t = 0; t < r.costs.tensors.size(); ++t) {
      throw_if_interrupted();
      TensorCosts& tensor = r.costs.tensors[t];
      const double predicted = tensor.find(*a.types[t])->cost;
      const Replacement whole = tensor.sensitivity.tensor;
      const double gone = all - meter_.measure_model(*made, {&whole, 1}).kld;
      contributions += predicted;
      ratios.push_back(gone / std::max(predicted, 1e-30));
      progress.advance(1, whole->name());
    }
    progress.finish();
    // Ratios are relative to the model's whole: its level goes into the gain.
    const double level = all / std::max(contributions, 1e-30);
    for (size_t t = 0; t < ratios.size(); ++t)
      for (TypeCost& c : r.costs.tensors[t].types) c.cost *= std::clamp(ratios[t] / level, kLeastRatio, kMostRatio);
    r.costs.gain *= all / std::max(r.costs.predict(a.types).mean, 1e-30);
  }

  void keep_best(FitResult& r) {
    const bool by_size = o_.target.max_kld > 0;
    size_t best = 0;
    for (size_t i = 1; i < attempts_.size(); ++i) {
      const FitCandidate &a = attempts_[i].candidate, &b = attempts_[best].candidate;
      bool better = a.measured < b.measured;
      if (by_size) {
        const bool meets_a = a.measured <= o_.target.max_kld, meets_b = b.measured <= o_.target.max_kld;
        better = meets_a != meets_b ? meets_a : meets_a ? a.size_bytes < b.size_bytes : a.measured < b.measured;
      }
      if (better) best = i;
    }
    Attempt& kept = attempts_[best];
    kept.file->move_to(o_.quantize.output);
    kept.candidate.is_kept = true;
    r.recipe = kept.recipe;
    r.quantized = kept.result;
    r.meets_target = !by_size || kept.candidate.measured <= o_.target.max_kld;
    for (const Attempt& a : attempts_) r.candidates.push_back(a.candidate);
  }

  const Model& model_;
  const SplitText& text_;
  const FitOptions& o_;
  ThreadPool pool_;
  HarmMeter meter_;
  std::vector<Attempt> attempts_;
};

}  // namespace

SplitText split_text(const Model& model, const CorpusOptions& options, uint32_t n_probes, uint32_t n_held_out) {
  constexpr size_t kPeriod = 8;  // one window in so many is held out by calibrated rounding
  SplitText split;
  split.calibration = read_corpus(model, options);
  CorpusOptions longer = options;
  longer.max_chunks = options.max_chunks > 0 ? options.max_chunks + n_held_out : 0;
  const Corpus all = options.max_chunks > 0 ? read_corpus(model, longer) : split.calibration;
  size_t begin_all = 0;
  for (size_t s = 0; s < all.sources.size(); ++s) {
    const size_t used = split.calibration.sources[s].n_chunks, has = all.sources[s].n_chunks;
    for (size_t c = used; c < has; ++c) split.held_out.push_back(all.chunks[begin_all + c]);
    begin_all += has;
  }
  split.is_behind = split.held_out.size() >= n_held_out / 2 && !split.held_out.empty();
  const size_t n = split.calibration.chunks.size();
  const bool has_period = n >= 2 * kPeriod;
  if (!split.is_behind) {
    split.held_out.clear();
    for (size_t c = kPeriod - 1; has_period && c < n && split.held_out.size() < n_held_out; c += kPeriod)
      split.held_out.push_back(split.calibration.chunks[c]);
    if (!has_period) {
      if (n < 2)
        fail(ExitCode::kUsage, "the text has {} windows of {} tokens: planning needs two, one to measure on (give more text)",
             n, split.calibration.context);
      split.held_out.push_back(split.calibration.chunks.back());
    }
  }
  // Probes: windows spread over what is learned from.
  std::vector<size_t> seen;
  for (size_t c = 0; c < n; ++c)
    if (has_period ? c % kPeriod != kPeriod - 1 : c + 1 < n) seen.push_back(c);
  split.probes = split.calibration;
  split.probes.chunks.clear();
  const size_t wanted = std::min<size_t>(n_probes, seen.size());
  for (size_t i = 0; i < wanted; ++i) split.probes.chunks.push_back(split.calibration.chunks[seen[i * seen.size() / wanted]]);
  return split;
}

FitResult quantize_to_fit(const Model& model, const SplitText& text, const FitOptions& options) {
  return Fitting(model, text, options).run();
}

Json to_json(const FitCandidate& c) {
  return {{"name", c.name},
          {"size_bytes", c.size_bytes},
          {"predicted", {{"mean", c.predicted.mean}, {"ci95", {c.predicted.low, c.predicted.high}}}},
          {"measured", {{"mean", c.measured}, {"ci95", {c.measured_ci95.low, c.measured_ci95.high}}}},
          {"top1_agreement", c.top1},
          {"kept", c.is_kept}};
}

PlanCheck check_plan(const Model& model, const PlanCosts& costs, uint32_t n_recipes, uint64_t seed, const Imatrix* stats,
                     std::span<const std::vector<TokenId>> windows, ThreadPool& pool) {
  HarmMeter meter(model, windows, pool);
  PlanCheck check;
  std::vector<double> predicted, measured;
  Progress progress("check", n_recipes, "recipes");
  size_t covered = 0;
  for (uint32_t i = 0; i < n_recipes; ++i) {
    // Types of a tensor within a band of the ladder, the band somewhere on it.
    RowDraws draws(seed, draw_key("recipe"), i);
    const double place = draws.uniform(), width = 0.15 + 0.35 * draws.uniform();
    std::vector<const TypeInfo*> types;
    for (const TensorCosts& t : costs.tensors) {
      std::vector<const TypeInfo*> quantized;
      for (const TypeCost& c : t.types)
        if (c.type->is_quantized) quantized.push_back(c.type);
      if (quantized.empty()) quantized.push_back(t.types.front().type);
      const double at = std::clamp(place + width * (draws.uniform() - 0.5), 0.0, 1.0);
      types.push_back(quantized[std::min(quantized.size() - 1, static_cast<size_t>(at * static_cast<double>(quantized.size())))]);
    }
    FitCandidate c;
    c.name = fmt::format("random {}", i + 1);
    c.size_bytes = costs.size_bytes(types);
    PlanCosts by_search = costs;
    by_search.gain = 1;
    c.predicted = by_search.predict(costs.sum(types, true));
    const Harm harm = measure_recipe(costs, types, stats, meter, pool);
    c.measured = harm.kld;
    c.measured_ci95 = harm.kld_ci95;
    c.top1 = harm.top1;
    covered += c.measured >= c.predicted.low && c.measured <= c.predicted.high ? 1 : 0;
    predicted.push_back(c.predicted.mean);
    measured.push_back(c.measured);
    check.recipes.push_back(std::move(c));
    progress.advance(1);
  }
  progress.finish();
  check.spearman = rank_correlation(predicted, measured);
  check.share_covered = static_cast<double>(covered) / std::max<uint32_t>(1, n_recipes);
  return check;
}

}  // namespace tsubu
