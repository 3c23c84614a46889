// Costs of single tensors, really measured where they decide about the plan. See planner.h.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <set>

#include "base/error.h"
#include "base/progress.h"
#include "calibrate/gram.h"
#include "pipeline/planner.h"
#include "pipeline/stream_metric.h"

namespace tsubu {
namespace {

// A change of the plan that its predicted loss is more than so many standard deviations away from is not looked at.
constexpr double kDoubt = 2;
// A round measures at most so many costs for each tensor before the plan is made again.
constexpr double kPerRound = 1.5;
constexpr size_t kGramWindows = 64;  // that calibrated rounding of single tensors learns from

struct Wanted {
  size_t tensor = 0, type = 0;  // of PlanCosts
  double doubt = 0;             // standard deviations between what the change costs and nothing
};

class Measuring {
 public:
  Measuring(const Model& model, const Corpus& probes, const QuantizeOptions& quantize, const PlannerOptions& options,
            const PlanTarget& target, PlanCosts& costs, ThreadPool& pool)
      : model_(model), quantize_(quantize), o_(options), target_(target), costs_(costs), pool_(pool), probes_(probes),
        start_(std::chrono::steady_clock::now()) {
    key_ = costs_key(model, probes, quantize, options);
    calibrates_ = options.calibrated && quantize.corpus != nullptr;
  }

  Plan run(Refinement& r) {
    for (const TensorCosts& t : costs_.tensors)
      for (const TypeCost& c : t.types) r.n_known += c.windows.empty() ? 0 : 1;
    Plan plan = make_plan(costs_, o_, target_);
    r.first = plan;
    const auto most = static_cast<size_t>(o_.measure.per_tensor * static_cast<double>(costs_.tensors.size()));
    for (;;) {
      std::vector<Wanted> wanted = doubtful(plan);
      r.is_stable = wanted.empty();
      if (r.is_stable) break;
      size_t n = static_cast<size_t>(kPerRound * static_cast<double>(costs_.tensors.size()));
      if (!o_.measure.seconds) n = std::min(n, most - std::min(most, r.n_measured));
      if (wanted.size() > n) wanted.resize(n);
      if (wanted.empty() || out_of_time()) break;
      ++r.n_rounds;
      r.n_measured += measure(wanted, r.n_rounds);
      costs_.weigh();
      plan = make_plan(costs_, o_, target_);
    }
    for (size_t t = 0; t < plan.types.size(); ++t)
      if (plan.types[t] != r.first.types[t])
        r.changes.push_back({costs_.tensors[t].sensitivity.tensor, r.first.types[t], plan.types[t]});
    r.first_cost = costs_.sum(r.first.types);
    r.last_cost = costs_.sum(plan.types);
    r.seconds = seconds();
    return plan;
  }

 private:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }
  bool out_of_time() const { return o_.measure.seconds && seconds() >= *o_.measure.seconds; }

  // Costs that are not measured and may change the plan, those that decide most first: the plan's own, then those of types
  // whose price for the change, bytes and divergence together, is few standard deviations from nothing.
  std::vector<Wanted> doubtful(const Plan& plan) const {
    const double byte = byte_price(costs_, plan_front(costs_, o_), plan.size_bytes);
    std::vector<Wanted> wanted;
    for (size_t t = 0; t < costs_.tensors.size(); ++t) {
      const TensorCosts& tensor = costs_.tensors[t];
      const TypeCost& own = *tensor.find(*plan.types[t]);
      for (size_t i = 0; i < tensor.types.size(); ++i) {
        const TypeCost& c = tensor.types[i];
        if (!c.windows.empty() || !c.type->is_quantized || c.cost <= 0 || !may_choose(o_, *tensor.sensitivity.tensor, *c.type)) continue;
        const double change =
            c.cost - own.cost + byte * (static_cast<double>(c.size_bytes) - static_cast<double>(own.size_bytes));
        const double spread = std::hypot(c.cost * c.spread, own.cost * own.spread);
        const double doubt = &c == &own ? 0 : std::abs(change) / std::max(spread, 1e-300);
        if (doubt < kDoubt) wanted.push_back({t, i, doubt});
      }
    }
    std::stable_sort(wanted.begin(), wanted.end(), [](const Wanted& a, const Wanted& b) { return a.doubt < b.doubt; });
    return wanted;
  }

  // In the order of the graph, so that only what stands behind a tensor is computed again. Returns how many were done in time.
  size_t measure(const std::vector<Wanted>& wanted, size_t round) {
    std::map<std::string, std::vector<TypeCost*>> by_name;
    for (const Wanted& w : wanted) {
      TensorCosts& tensor = costs_.tensors[w.tensor];
      by_name[tensor.sensitivity.tensor->name()].push_back(&tensor.types[w.type]);
    }
    if (!meter_) {
      const auto chunks = std::span(probes_.chunks).first(windows_that_fit(model_, probes_));
      meter_.emplace(model_, chunks, pool_);
    }
    meter_->rewind();
    costs_.measured_by = measured_key(quantize_, o_);
    size_t done = 0;
    Progress progress(fmt::format("measure, round {}", round), wanted.size(), "costs");
    const auto take = [&](const std::string& name, const Curvature* curvature) {
      for (TypeCost* c : by_name[name]) {
        if (out_of_time()) return;
        try {
          throw_if_interrupted(o_.costs_path.empty() ? "" : fmt::format("{} keeps what was measured", o_.costs_path));
          c->windows = windows_of(model_.tensor(name), *c->type, curvature);
        } catch (...) {  // interrupted here or in the middle of a forward pass
          if (done > 0) save();
          throw;
        }
        ++done;
        progress.advance(1, fmt::format("{} {}", name, c->type->name));
      }
      by_name.erase(name);
    };
    std::set<std::string> linears;
    const std::vector<ReadGroup> groups = read_groups(model_.graph());
    for (const ReadGroup& group : groups)
      for (const Op* op : group.linears) linears.insert(op->weight);
    for (const Op& op : model_.graph().ops)
      if (op.kind == OpKind::kEmbed && by_name.contains(op.weight)) {
        std::optional<Curvature> curvature;
        if (calibrates_ && !linears.contains(op.weight)) {
          if (metric_.empty()) metric_ = stream_metric(model_, probes_, pool_);
          curvature.emplace(metric_, model_.tensor(op.weight).n_cols(), 1, quantize_.calibrated.embedding_damping, pool_);
        }
        take(op.weight, curvature ? &*curvature : nullptr);
      }
    if (calibrates_) {
      if (!walk_) walk_.emplace(model_, learned(), pool_);
      walk_->rewind();
    }
    for (const ReadGroup& group : groups) {
      const auto is_wanted = [&](const Op* op) { return by_name.contains(op->weight); };
      if (std::none_of(group.linears.begin(), group.linears.end(), is_wanted) || out_of_time()) continue;
      meter_->advance(group.step);
      std::optional<Curvature> curvature;
      if (calibrates_ && group.linears.front()->kind != OpKind::kExpertLinear) {
        walk_->advance(group.step);
        curvature.emplace(curvature_of(group));
      }
      for (const Op* op : group.linears)
        if (is_wanted(op)) take(op->weight, curvature ? &*curvature : nullptr);
    }
    progress.finish();
    save();
    return done;
  }

  void save() const {
    if (!o_.costs_path.empty()) save_costs(costs_, key_, o_.costs_path);
  }

  // Windows that calibrated rounding learns from, other than those that are measured on, spread over the text.
  std::span<const std::vector<TokenId>> learned() {
    std::vector<const std::vector<TokenId>*> others;
    for (const auto& chunk : quantize_.corpus->chunks)
      if (std::find(probes_.chunks.begin(), probes_.chunks.end(), chunk) == probes_.chunks.end()) others.push_back(&chunk);
    if (others.empty()) return probes_.chunks;
    const size_t n = std::min(kGramWindows, others.size());
    for (size_t i = 0; i < n; ++i) learned_.push_back(*others[i * others.size() / n]);
    return learned_;
  }

  Curvature curvature_of(const ReadGroup& group) {
    const size_t n = model_.tensor(group.linears.front()->weight).n_cols();
    GramAccumulator gram(n, n, true);
    for (size_t c = 0; c < walk_->n_chunks(); ++c) {
      const auto& x = walk_->value(c, group.input);
      gram.add(x.data(), n, x.size() / n, pool_);
    }
    std::vector<float> h(n * n);
    gram.finish(h);
    return Curvature(h, n, gram.n_tokens(), quantize_.calibrated.damping, pool_);
  }

  std::vector<double> windows_of(const ModelTensor& tensor, const TypeInfo& type, const Curvature* curvature) {
    std::vector<std::byte> bytes = encode_tensor(tensor, type, quantize_.stats, pool_);
    if (curvature && can_round(type)) {
      const uint64_t rows = tensor.n_rows(), n = tensor.n_cols(), row_bytes = n / type.block_len * type.block_bytes;
      constexpr uint64_t kRows = 1024;
      std::vector<float> w(std::min(kRows, rows) * n);
      for (uint64_t first = 0; first < rows; first += kRows) {
        const uint64_t count = std::min(kRows, rows - first);
        tensor.read_rows(first, count, w.data());
        round_rows(w.data(), count, type, *curvature, quantize_.calibrated.round, bytes.data() + first * row_bytes, pool_);
      }
    }
    const ModelTensor rounded(tensor.spec(), type, bytes);
    const Replacement replacement = &rounded;
    std::vector<double> windows;
    for (const BlockSums& c : meter_->measure({&replacement, 1}).chunks) windows.push_back(std::max(c.kld / c.n, 0.0));
    return windows;
  }

  const Model& model_;
  const QuantizeOptions& quantize_;
  const PlannerOptions& o_;
  const PlanTarget& target_;
  PlanCosts& costs_;
  ThreadPool& pool_;
  const Corpus& probes_;
  std::chrono::steady_clock::time_point start_;
  std::string key_;
  bool calibrates_ = false;
  std::vector<std::vector<TokenId>> learned_;
  std::vector<float> metric_;
  std::optional<HarmMeter> meter_;
  std::optional<ActivationWalk> walk_;
};

}  // namespace

Plan refine_plan(const Model& model, const Corpus& probes, const QuantizeOptions& quantize, const PlannerOptions& options,
                 const PlanTarget& target, PlanCosts& costs, ThreadPool& pool, Refinement* refinement) {
  Refinement ignored;
  return Measuring(model, probes, quantize, options, target, costs, pool).run(refinement ? *refinement : ignored);
}

}  // namespace tsubu
