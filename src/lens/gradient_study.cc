#include "lens/gradient_study.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <set>

#include "base/error.h"
#include "base/progress.h"
#include "calibrate/gram.h"
#include "evaluate/correlation.h"
#include "kernel/kernels.h"

namespace tsubu {
namespace {

constexpr double kDamping = 0.01;  // of the mean diagonal, as calibrated rounding does
constexpr size_t kRows = 64;       // of one item of work

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Mean Gram matrix (n, n) of a value on all the meter's windows, damped.
AlignedVector<float> gram_of(const HarmMeter& meter, ValueId value, size_t n, ThreadPool& pool) {
  GramAccumulator gram(n, n, true);
  for (size_t c = 0; c < meter.n_chunks(); ++c) {
    const auto& x = meter.value(c, value);
    gram.add(x.data(), n, x.size() / n, pool);
  }
  AlignedVector<float> h(n * n);
  gram.finish(h);
  double trace = 0;
  for (size_t i = 0; i < n; ++i) trace += static_cast<double>(h[i * n + i]);
  for (size_t i = 0; i < n; ++i) h[i * n + i] += static_cast<float>(kDamping * trace / static_cast<double>(n));
  return h;
}

// Sums over the elements of a tensor and of its error.
struct ErrorSums {
  double weights = 0, error = 0;   // ‖W‖², ‖Δ‖²
  double output = 0;               // tr(Δ H Δᵀ)
  double fisher = 0, first = 0;    // Σ F Δ², Σ |g Δ|
};

ErrorSums sums_of(const GradientSensitivity& gradient, const std::vector<float>& changed, const float* h, ThreadPool& pool) {
  const ModelTensor& tensor = *gradient.tensor;
  const size_t rows = tensor.n_rows(), n = tensor.n_cols(), n_items = (rows + kRows - 1) / kRows;
  std::vector<ErrorSums> parts(n_items);
  pool.parallel_for(n_items, [&](size_t item, int) {
    const size_t first = item * kRows, count = std::min(kRows, rows - first);
    AlignedVector<float> w(count * n), delta(count * n), product(h ? count * n : 0);
    tensor.read_rows(first, count, w.data());
    ErrorSums& sums = parts[item];
    for (size_t i = 0; i < count * n; ++i) {
      const size_t at = first * n + i;
      delta[i] = changed[at] - w[i];
      const auto d = static_cast<double>(delta[i]), x = static_cast<double>(w[i]);
      sums.weights += x * x;
      sums.error += d * d;
      sums.fisher += static_cast<double>(gradient.fisher[at]) * d * d;
      sums.first += std::abs(static_cast<double>(gradient.gradient[at]) * d);
    }
    if (!h) return;
    kernels().gemm_nt(h, n, delta.data(), n, product.data(), n, n, count, n);
    for (size_t r = 0; r < count; ++r)
      sums.output += static_cast<double>(kernels().dot(product.data() + r * n, delta.data() + r * n, n));
  });
  ErrorSums all;
  for (const ErrorSums& p : parts) {
    all.weights += p.weights;
    all.error += p.error;
    all.output += p.output;
    all.fisher += p.fisher;
    all.first += p.first;
  }
  return all;
}

// Ratios whose logarithms are added: their geometric mean, and the deviation of the logarithms.
struct Ratios {
  double sum = 0, squares = 0, n = 0;
  void add(double logarithm) {
    sum += logarithm;
    squares += logarithm * logarithm;
    n += 1;
  }
  double level() const { return std::exp(sum / n); }
  double scatter() const { return std::sqrt(std::max(0.0, squares - sum * sum / n) / (n - 1)); }
};

Agreement agreement_of(size_t predictor, const std::vector<TensorPrediction>& tensors) {
  Agreement a;
  a.predictor = kPredictors[predictor];
  std::vector<double> predicted, measured;
  std::map<const TypeInfo*, std::pair<std::vector<double>, std::vector<double>>> by_type;
  Ratios ratios;
  for (const TensorPrediction& t : tensors)
    for (const TypePrediction& p : t.types) {
      const double value = p.predicted[predictor];
      if (!p.kld || *p.kld <= 0 || value <= 0) continue;
      predicted.push_back(std::log(value));
      measured.push_back(std::log(*p.kld));
      by_type[p.type].first.push_back(predicted.back());
      by_type[p.type].second.push_back(measured.back());
      ratios.add(measured.back() - predicted.back());
    }
  a.n = predicted.size();
  if (a.n < 3) return a;
  a.spearman = rank_correlation(predicted, measured);
  a.pearson = correlation(predicted, measured);
  double n_types = 0;
  for (const auto& [type, values] : by_type) {
    if (values.first.size() < 3) continue;
    a.within += rank_correlation(values.first, values.second);
    ++n_types;
  }
  if (n_types > 0) a.within /= n_types;
  a.level = ratios.level();
  a.scatter = ratios.scatter();
  return a;
}

class Studying {
 public:
  Studying(const Model& model, std::span<const std::vector<TokenId>> windows, std::span<const std::vector<TokenId>> held,
           const GradientStudyOptions& options, ThreadPool& pool)
      : model_(model), windows_(windows), held_(held), o_(options), pool_(pool), types_(options.types) {
    if (types_.empty())
      for (const char* name : {"Q2_K", "Q3_K", "Q4_K"}) types_.push_back(&type_named(name));
    for (const TypeInfo* type : types_) {
      if (!type->encode) fail(ExitCode::kUnsupported, "type {} can be read but not written yet (`tsubu types` says which can)", type->name);
      bool fits = options.types.empty();  // those that nobody named need not fit
      for (const ModelTensor* t : sensitive_tensors(model)) fits |= t->n_cols() % type->block_len == 0;
      if (!fits)
        fail(ExitCode::kUsage, "type {}: its blocks of {} divide the rows of no tensor (name one with smaller blocks)", type->name,
             type->block_len);
    }
    if (o_.work) work_ = *o_.work;
    if (!work_.is_object()) work_ = Json::object();
    for (const char* part : {"probes", "harm"})
      if (!work_.contains(part)) work_[part] = Json::object();
  }

  GradientStudy run() {
    study_.n_windows = windows_.size();
    study_.n_held_windows = held_.size();
    study_.context = windows_.front().size();
    const auto start = Clock::now();
    HarmMeter meter(model_, windows_, pool_);
    const double base_seconds = seconds_since(start);
    probe(meter);
    for (const ModelTensor* t : sensitive_tensors(model_))
      for (const TypeInfo* type : types_) study_.n_costs += t->n_cols() % type->block_len == 0 ? 1 : 0;
    study_.n_left_out = study_.n_costs;
    if (work_["probes"].size() < sensitive_tensors(model_).size()) return std::move(study_);  // the time is over
    study_.probe_seconds += base_seconds;
    GradientOptions gradient = o_.gradient;
    gradient.keeps_fisher = gradient.keeps_gradient = true;
    gradients_ = gradient_sensitivities(model_, windows_, gradient, pool_, &study_.fisher_seconds, &study_.gradient_seconds);
    compare(meter);
    summarize();
    return std::move(study_);
  }

 private:
  bool is_over() const { return o_.is_over && o_.is_over(); }
  void save() {
    if (o_.work) *o_.work = work_;
    if (o_.save) o_.save();
  }

  void probe(HarmMeter& meter) {
    auto last = Clock::now();
    Json& known = work_["probes"];
    sensitivities(
        model_, meter, o_.probe, pool_, {},
        [&](const Sensitivity& s) {
          known[s.tensor->name()] = {{"alpha", s.alpha}, {"spread", s.spread}, {"seconds", seconds_since(last)}};
          last = Clock::now();
          save();
        },
        [&](const ModelTensor& t) { return known.contains(t.name()) || is_over(); });
    for (const auto& [name, one] : known.items()) study_.probe_seconds += one.at("seconds").get<double>();
  }

  void compare(HarmMeter& learned) {
    std::map<std::string, const GradientSensitivity*> gradient_of;
    for (const GradientSensitivity& g : gradients_) gradient_of[g.tensor->name()] = &g;
    HarmMeter meter(model_, held_, pool_);
    learned.rewind();
    Progress progress("single tensors", study_.n_costs, "costs");
    std::set<std::string> linears;
    const std::vector<ReadGroup> groups = read_groups(model_.graph());
    for (const ReadGroup& group : groups)
      for (const Op* op : group.linears) linears.insert(op->weight);
    for (const GradientSensitivity& g : gradients_)
      if (is_table(g.tensor->name()) && !linears.contains(g.tensor->name())) take(g, nullptr, meter, progress);
    // A head that is the embedding too is changed in both places, before anything has run.
    std::vector<std::string> tied;
    for (const GradientSensitivity& g : gradients_)
      if (is_table(g.tensor->name()) && linears.contains(g.tensor->name())) tied.push_back(g.tensor->name());
    for (const std::string& name : tied) measure(*gradient_of.at(name)->tensor, meter);
    for (const ReadGroup& group : groups) {
      std::vector<const Op*> wanted;
      for (const Op* op : group.linears)
        if (gradient_of.contains(op->weight) && !done_.contains(op->weight)) wanted.push_back(op);
      if (wanted.empty()) continue;
      learned.advance(group.step);
      meter.advance(group.step);
      const size_t n = model_.tensor(wanted.front()->weight).n_cols();
      const AlignedVector<float> h = gram_of(learned, group.input, n, pool_);
      for (const Op* op : wanted)
        if (!done_.contains(op->weight)) take(*gradient_of.at(op->weight), h.data(), meter, progress);
    }
    progress.finish();
    std::map<std::string, size_t> place;
    for (size_t i = 0; i < gradients_.size(); ++i) place[gradients_[i].tensor->name()] = i;
    std::sort(study_.tensors.begin(), study_.tensors.end(),
              [&](const auto& a, const auto& b) { return place.at(a.name) < place.at(b.name); });
  }

  bool is_table(const std::string& name) const {
    for (const Op& op : model_.graph().ops)
      if (op.kind == OpKind::kEmbed && op.weight == name) return true;
    return false;
  }

  // The divergence of the tensor alone in every type, where the time suffices.
  void measure(const ModelTensor& tensor, HarmMeter& meter) {
    Json& known = work_["harm"][tensor.name()];
    for (const TypeInfo* type : types_) {
      const std::string name(type->name);
      if (tensor.n_cols() % type->block_len != 0 || known.contains(name) || is_over()) continue;
      throw_if_interrupted();
      const auto start = Clock::now();
      const PerturbedTensor changed = perturb(tensor, parse_perturbation(name), nullptr, pool_);
      const ModelTensor rounded(tensor.spec(), type_named("F32"), std::as_bytes(std::span(changed.values)));
      const Replacement replacement = &rounded;
      const double kld = meter.measure({&replacement, 1}).kld;
      known[name] = {{"kld", kld}, {"seconds", seconds_since(start)}};
      save();
    }
  }

  void take(const GradientSensitivity& g, const float* h, HarmMeter& meter, Progress& progress) {
    const ModelTensor& tensor = *g.tensor;
    const size_t n = tensor.n_cols();
    done_.insert(tensor.name());
    measure(tensor, meter);
    double trace = 0;
    for (size_t i = 0; h && i < n; ++i) trace += static_cast<double>(h[i * n + i]);
    const Json& probed = work_["probes"].at(tensor.name());
    TensorPrediction t;
    t.name = tensor.name();
    t.role = role_name(tensor.spec().role);
    t.layer = tensor.spec().layer;
    t.probe_alpha = probed.at("alpha");
    t.probe_spread = probed.at("spread");
    t.fisher_alpha = g.alpha_rows;
    t.fisher_spread = g.spread;
    for (const TypeInfo* type : types_) {
      if (n % type->block_len != 0) continue;
      throw_if_interrupted();
      const PerturbedTensor changed = perturb(tensor, parse_perturbation(type->name), nullptr, pool_);
      const ErrorSums sums = sums_of(g, changed.values, h, pool_);
      TypePrediction p;
      p.type = type;
      const double r2 = sums.weights > 0 ? sums.error / sums.weights : 0;
      p.r = std::sqrt(r2);
      p.e = trace > 0 && sums.weights > 0 ? sums.output / (sums.weights * trace / static_cast<double>(n)) : r2;
      p.predicted = {t.probe_alpha * r2, t.probe_alpha * p.e, t.fisher_alpha * r2, t.fisher_alpha * p.e, sums.fisher / 2, sums.first};
      const Json& known = work_["harm"][tensor.name()];
      if (known.contains(std::string(type->name))) {
        p.kld = known.at(std::string(type->name)).at("kld").get<double>();
        study_.harm_seconds += known.at(std::string(type->name)).at("seconds").get<double>();
        --study_.n_left_out;
      }
      t.types.push_back(p);
      progress.advance(1, fmt::format("{} {}", tensor.name(), type->name));
    }
    study_.tensors.push_back(std::move(t));
  }

  void summarize() {
    std::vector<double> probe, fisher;
    Ratios ratios;
    for (const TensorPrediction& t : study_.tensors) {
      if (t.probe_alpha <= 0 || t.fisher_alpha <= 0) continue;
      probe.push_back(std::log(t.probe_alpha));
      fisher.push_back(std::log(t.fisher_alpha));
      ratios.add(fisher.back() - probe.back());
    }
    if (probe.size() >= 3) {
      study_.alpha_spearman = rank_correlation(probe, fisher);
      study_.alpha_ratio = ratios.level();
      study_.alpha_scatter = ratios.scatter();
    }
    if (study_.n_costs - study_.n_left_out < 3) return;
    for (size_t i = 0; i < kPredictors.size(); ++i) study_.agreements.push_back(agreement_of(i, study_.tensors));
  }

  const Model& model_;
  std::span<const std::vector<TokenId>> windows_, held_;
  const GradientStudyOptions& o_;
  ThreadPool& pool_;
  std::vector<const TypeInfo*> types_;
  Json work_;
  std::vector<GradientSensitivity> gradients_;
  std::set<std::string> done_;
  GradientStudy study_;
};

}  // namespace

GradientStudy study_gradients(const Model& model, std::span<const std::vector<TokenId>> windows,
                              std::span<const std::vector<TokenId>> held, const GradientStudyOptions& options, ThreadPool& pool) {
  return Studying(model, windows, held, options, pool).run();
}

Json to_json(const GradientStudy& s) {
  Json json{{"context", s.context},
            {"windows", s.n_windows},
            {"held_windows", s.n_held_windows},
            {"seconds",
             {{"probes", s.probe_seconds}, {"fisher", s.fisher_seconds}, {"gradient", s.gradient_seconds}, {"harm", s.harm_seconds}}},
            {"alpha", {{"spearman", s.alpha_spearman}, {"ratio", s.alpha_ratio}, {"scatter", s.alpha_scatter}}},
            {"costs", s.n_costs},
            {"left_out", s.n_left_out},
            {"agreements", Json::array()},
            {"tensors", Json::array()}};
  for (const Agreement& a : s.agreements)
    json["agreements"].push_back({{"predictor", a.predictor}, {"n", a.n}, {"spearman", a.spearman}, {"spearman_within", a.within},
                                  {"pearson_log", a.pearson}, {"level", a.level}, {"scatter", a.scatter}});
  for (const TensorPrediction& t : s.tensors) {
    Json item{{"name", t.name}, {"role", t.role}, {"layer", t.layer}, {"types", Json::array()},
              {"probe", {{"alpha", t.probe_alpha}, {"spread", t.probe_spread}}},
              {"fisher", {{"alpha", t.fisher_alpha}, {"spread", t.fisher_spread}}}};
    for (const TypePrediction& p : t.types) {
      Json type{{"type", p.type->name}, {"r", p.r}, {"e", p.e}, {"predicted", Json::object()}};
      for (size_t i = 0; i < kPredictors.size(); ++i) type["predicted"][std::string(kPredictors[i])] = p.predicted[i];
      if (p.kld) type["kld"] = *p.kld;
      item["types"].push_back(std::move(type));
    }
    json["tensors"].push_back(std::move(item));
  }
  return json;
}

}  // namespace tsubu
