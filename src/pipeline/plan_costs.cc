// What a plan rests on, measured: sensitivities, errors of the candidates, recipes that were really rounded. See planner.h.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/progress.h"
#include "base/size.h"
#include "calibrate/gram.h"
#include "kernel/kernels.h"
#include "lens/gradient_sensitivity.h"
#include "base/draws.h"
#include "pipeline/planner.h"
#include "pipeline/stream_metric.h"

namespace tsubu {
namespace {

constexpr uint64_t kLogitBytes = uint64_t{1} << 30;  // kept of the float model
constexpr uint64_t kPanelRows = 16;                  // rounding works on so many rows
constexpr uint64_t kSuperBlock = 256;
constexpr double kLeastBits = 2.4, kMostBits = 5.5;  // a weight, of the recipes that are rounded and measured
// What targets that make up for earlier errors take off a recipe's divergence beyond the tensors' own errors: measured, see
// bench/results/2026-11-26-plan.md.
constexpr double kCalibratedGain = 0.8;
// Standard deviations of ln(measured / predicted) on other text than the probes', without and with calibrated rounding.
constexpr double kSearchSpread = 0.3, kCalibratedSpread = 0.3;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Of tensors in the file.
uint64_t alignment_of(const Model& model) {
  GgufLayout layout;
  layout.metadata() = model.gguf_metadata();
  return layout.alignment();
}

// Measures the candidates' errors on some rows of a tensor.
class ErrorMeter {
 public:
  ErrorMeter(const PlannerOptions& options, const QuantizeOptions& quantize, std::vector<const TypeInfo*> types,
             const PlanCosts& plan, ThreadPool& pool)
      : options_(options), quantize_(quantize), types_(std::move(types)), plan_(plan), pool_(pool) {}

  // Against the mean Gram matrix of the tensor's input. usage: tokens of each expert, whose rows are taken in proportion;
  // empty for dense linears.
  std::vector<TypeCost> linear(const ModelTensor& tensor, const Curvature& curvature,
                               const std::vector<uint64_t>& usage = {}) {
    const uint64_t rows = tensor.n_rows() / tensor.n_matrices(), n = tensor.n_cols();
    const uint64_t most = rows * tensor.n_matrices();
    const uint64_t wanted = std::clamp<uint64_t>(options_.sample_weights / n / kPanelRows * kPanelRows,
                                                 std::min(kPanelRows, most), most);
    uint64_t total = 0, before = 0;
    for (uint64_t u : usage) total += u;
    std::vector<uint64_t> sample;
    for (uint64_t i = 0; i < wanted; ++i) {
      if (total == 0) {
        sample.push_back(i * most / wanted);
        continue;
      }
      // The i-th of `wanted` places in the row of all tokens belongs to an expert; how far into it says which row.
      const auto place = static_cast<double>(i) / static_cast<double>(wanted) * static_cast<double>(total);
      uint64_t expert = 0;
      for (before = 0; place >= static_cast<double>(before + usage[expert]); ++expert) before += usage[expert];
      const double share = (place - static_cast<double>(before)) / static_cast<double>(usage[expert]);
      sample.push_back(expert * rows + std::min(rows - 1, static_cast<uint64_t>(share * static_cast<double>(rows))));
    }
    return costs(tensor, sample, curvature, usage.empty());
  }

  // Rows of tokens drawn from the text, each as often as it comes there.
  std::vector<TypeCost> table(const ModelTensor& tensor, const Corpus& corpus, const Curvature& curvature) {
    const uint64_t wanted = std::max(options_.sample_weights / tensor.n_cols() / kPanelRows * kPanelRows, 4 * kPanelRows);
    RowDraws draws(1, draw_key(tensor.name()), 0);
    std::vector<uint64_t> sample;
    for (uint64_t i = 0; i < wanted; ++i) {
      const auto& chunk = corpus.chunks[static_cast<size_t>(draws.uniform() * static_cast<double>(corpus.chunks.size()))];
      const auto at = 1 + static_cast<size_t>(draws.uniform() * static_cast<double>(chunk.size() - 1));
      sample.push_back(static_cast<uint64_t>(chunk[at]));
    }
    return costs(tensor, sample, curvature);
  }

 private:
  std::vector<TypeCost> costs(const ModelTensor& tensor, const std::vector<uint64_t>& sample, const Curvature& curvature,
                              bool rounds = true) {
    const uint64_t n = tensor.n_cols(), matrix_rows = tensor.n_rows() / tensor.n_matrices();
    std::vector<float> w(sample.size() * n);
    for (size_t i = 0; i < sample.size(); ++i) tensor.read_rows(sample[i], 1, w.data() + i * n);
    double norm = 0, trace = 0;
    for (float v : w) norm += static_cast<double>(v) * static_cast<double>(v);
    for (float v : curvature.diagonal()) trace += static_cast<double>(v);
    const double unit = norm * trace / static_cast<double>(n);
    std::vector<float> importance;
    const float* weights = importance_of(tensor, importance);
    std::vector<TypeCost> result;
    for (const TypeInfo* type : types_) {
      if (n % type->block_len != 0) continue;
      if (is_small_block_type(*type) && n % kSuperBlock == 0 && !is_named(*type)) continue;
      throw_if_interrupted();
      const uint64_t row_bytes = n / type->block_len * type->block_bytes;
      std::vector<std::byte> bytes(sample.size() * row_bytes);
      TypeCost cost;
      cost.type = type;
      cost.size_bytes = plan_.padded_bytes(tensor, *type);
      pool_.parallel_for(sample.size(), [&](size_t i, int) {
        const float* own = weights ? weights + sample[i] / matrix_rows * n : nullptr;
        kernels().encode[type->index](w.data() + i * n, own, bytes.data() + i * row_bytes, n);
      });
      const auto error = [&] {
        if (unit <= 0) return 0.0;
        return form_error(w.data(), bytes.data(), sample.size(), *type, curvature.h(), n, pool_) / unit;
      };
      cost.search_error = cost.rounded_error = error();
      if (rounds && (options_.calibrated || !options_.costs_path.empty()) && type->is_quantized && can_round(*type)) {
        round_rows(w.data(), sample.size(), *type, curvature, quantize_.calibrated.round, bytes.data(), pool_);
        cost.rounded_error = std::min(error(), cost.search_error);
      }
      result.push_back(cost);
    }
    std::stable_sort(result.begin(), result.end(),
                     [](const TypeCost& a, const TypeCost& b) { return a.size_bytes < b.size_bytes; });
    return result;
  }

  bool is_named(const TypeInfo& type) const {
    const auto has = [&](const std::vector<const TypeInfo*>& list) {
      return std::find(list.begin(), list.end(), &type) != list.end();
    };
    return has(options_.allowed) || has(options_.known);
  }

  const float* importance_of(const ModelTensor& tensor, std::vector<float>& values) const {
    if (!quantize_.stats) return nullptr;
    const auto it = quantize_.stats->entries.find(tensor.name());
    if (it == quantize_.stats->entries.end() || it->second.n_cols() != tensor.n_cols()) return nullptr;
    if (it->second.counts.size() != tensor.n_matrices()) return nullptr;
    for (size_t m = 0; m < tensor.n_matrices(); ++m) {
      const auto matrix = it->second.mean_squares(m);
      values.insert(values.end(), matrix.begin(), matrix.end());
    }
    return values.data();
  }

  const PlannerOptions& options_;
  const QuantizeOptions& quantize_;
  std::vector<const TypeInfo*> types_;
  const PlanCosts& plan_;
  ThreadPool& pool_;
};

// Tokens that the router gave to each expert, on the meter's windows; empty for a dense linear.
std::vector<uint64_t> expert_usage(const Op& op, const HarmMeter& meter) {
  if (op.kind != OpKind::kExpertLinear) return {};
  std::vector<uint64_t> usage(op.n_experts, 0);
  for (size_t c = 0; c < meter.n_chunks(); ++c) {
    const auto& route = meter.value(c, op.inputs[1]);
    for (size_t t = 0; t + 2 * op.n_used <= route.size(); t += 2 * op.n_used)
      for (size_t s = 0; s < op.n_used; ++s) ++usage[static_cast<size_t>(route[t + s])];
  }
  return usage;
}

}  // namespace

std::vector<std::byte> encode_tensor(const ModelTensor& tensor, const TypeInfo& type, const Imatrix* stats,
                                     ThreadPool& pool) {
  const uint64_t rows = tensor.n_rows(), n = tensor.n_cols(), row_bytes = n / type.block_len * type.block_bytes;
  std::vector<std::byte> bytes(rows * row_bytes);
  std::vector<float> importance;
  if (stats) {
    const auto it = stats->entries.find(tensor.name());
    if (it != stats->entries.end() && it->second.n_cols() == n && it->second.counts.size() == tensor.n_matrices())
      for (size_t m = 0; m < tensor.n_matrices(); ++m) {
        const auto matrix = it->second.mean_squares(m);
        importance.insert(importance.end(), matrix.begin(), matrix.end());
      }
  }
  const uint64_t matrix_rows = rows / tensor.n_matrices();
  constexpr uint64_t kRows = 32;
  pool.parallel_for((rows + kRows - 1) / kRows, [&](size_t item, int) {
    const uint64_t first = item * kRows, count = std::min(kRows, rows - first);
    std::vector<float> x(count * n);
    tensor.read_rows(first, count, x.data());
    for (uint64_t r = 0; r < count; ++r)
      kernels().encode[type.index](
          x.data() + r * n, importance.empty() ? nullptr : importance.data() + (first + r) / matrix_rows * n,
          bytes.data() + (first + r) * row_bytes, n);
  });
  return bytes;
}

size_t windows_that_fit(const Model& model, const Corpus& corpus) {
  size_t n = corpus.chunks.size();
  while (n > 1 && HarmMeter::logit_bytes(model, corpus.context, n) > kLogitBytes) --n;
  return n;
}

Harm measure_recipe(const PlanCosts& costs, const std::vector<const TypeInfo*>& types, const Imatrix* stats,
                    HarmMeter& meter, ThreadPool& pool) {
  std::vector<std::vector<std::byte>> bytes;
  std::vector<ModelTensor> tensors;
  bytes.reserve(types.size());
  tensors.reserve(types.size());
  for (size_t t = 0; t < types.size(); ++t) {
    throw_if_interrupted();
    const ModelTensor& tensor = *costs.tensors[t].sensitivity.tensor;
    bytes.push_back(encode_tensor(tensor, *types[t], stats, pool));
    tensors.emplace_back(tensor.spec(), *types[t], bytes.back());
  }
  std::vector<Replacement> replacements;
  for (const ModelTensor& tensor : tensors) replacements.push_back(&tensor);
  return meter.measure_whole({}, replacements);
}

namespace {

// Recipes from the smallest to the largest that matters, planned ones and mixtures in turn: really rounded, measured.
void measure_anchors(PlanCosts& costs, const PlannerOptions& options, const Imatrix* stats, HarmMeter& meter,
                     ThreadPool& pool) {
  PlanCosts by_search = costs;
  for (TensorCosts& t : by_search.tensors)
    for (TypeCost& c : t.types) c.error = c.search_error;
  by_search.weigh();
  const std::vector<Plan> front = plan_front(by_search, options);
  Progress progress("measure", options.n_anchors, "recipes");
  for (uint32_t a = 0; a < options.n_anchors; ++a) {
    const double share = options.n_anchors > 1 ? static_cast<double>(a) / (options.n_anchors - 1) : 0.5;
    const double bits = kLeastBits * std::pow(kMostBits / kLeastBits, share);
    const Plan* plan = &front.front();
    for (const Plan& p : front)
      if (p.bits_per_weight <= bits) plan = &p;
    std::vector<const TypeInfo*> types = plan->types;
    Anchor anchor;
    anchor.name = fmt::format("plan of {:.2f} bits", plan->bits_per_weight);
    if (a % 2 == 1) {  // a mixture: every tensor a type or two off its own
      RowDraws draws(1, a, 0);
      for (size_t t = 0; t < types.size(); ++t) {
        const auto& known = costs.tensors[t].types;
        const auto at = static_cast<int64_t>(costs.tensors[t].find(*types[t]) - known.data());
        const auto moved = at + static_cast<int64_t>(draws.uniform() * 5) - 2;
        const TypeInfo* type = known[static_cast<size_t>(std::clamp<int64_t>(moved, 0, static_cast<int64_t>(known.size()) - 1))].type;
        types[t] = type;
      }
      anchor.name = fmt::format("mixture about {:.2f} bits", plan->bits_per_weight);
    }
    anchor.predicted = by_search.sum(types);
    anchor.measured = measure_recipe(costs, types, stats, meter, pool).kld;
    anchor.types = types;
    if (anchor.predicted > 0 && anchor.measured > 0) costs.anchors.push_back(anchor);
    progress.advance(1, anchor.name);
  }
  progress.finish();
  std::sort(costs.anchors.begin(), costs.anchors.end(),
            [](const Anchor& a, const Anchor& b) { return a.predicted < b.predicted; });
}

// The file's bytes besides the planned tensors: those of a recipe without what they take in it.
void add_fixed_bytes(PlanCosts& costs, const Model& model, const QuantizeOptions& quantize) {
  const Recipe f16 = recipe_named("F16");
  costs.alignment = alignment_of(model);
  costs.unplanned.clear();
  costs.fixed_bytes = quantized_bytes(model, f16, quantize);
  const std::vector<const TypeInfo*> as_f16 = recipe_types(model, costs, f16, quantize.plan);
  for (size_t t = 0; t < costs.tensors.size(); ++t) {
    const ModelTensor& tensor = *costs.tensors[t].sensitivity.tensor;
    costs.fixed_bytes -= costs.padded_bytes(tensor, *as_f16[t]);
  }
  std::set<std::string> names;
  for (const TensorCosts& t : costs.tensors) names.insert(t.sensitivity.tensor->name());
  uint64_t others = 0;
  costs.n_weights = 0;
  for (const PlannedTensor& p : assign_types(model, f16, quantize.plan)) {
    costs.n_weights += p.tensor->n_elements();
    if (names.contains(p.tensor->name())) continue;
    others += costs.padded_bytes(*p.tensor, *p.type);
    if (p.tensor->spec().quantizable) costs.unplanned.push_back(p.tensor->name());
  }
  costs.metadata_bytes = costs.fixed_bytes - others;
}

void finish_costs(PlanCosts& costs, const PlannerOptions& options) {
  costs.gain = options.calibrated ? kCalibratedGain : 1;
  costs.spread = options.calibrated ? kCalibratedSpread : kSearchSpread;
  costs.calibrated = options.calibrated;
  for (TensorCosts& t : costs.tensors)
    for (TypeCost& c : t.types) c.error = options.calibrated ? c.rounded_error : c.search_error;
  costs.weigh();
}

}  // namespace

std::string costs_key(const Model& model, const Corpus& probes, const QuantizeOptions& quantize, const PlannerOptions& options) {
  constexpr int kFormat = 2;  // of the file
  std::string key = fmt::format("{} {} {} {}", TSUBU_VERSION, kFormat, probes.hash, probes.chunks.size());
  for (const std::string& file : model.files())
    key += fmt::format(" {}:{}:{}", file, std::filesystem::file_size(file),
                       std::filesystem::last_write_time(file).time_since_epoch().count());
  if (quantize.stats) key += " " + hash_file(quantize.stats_path);
  const SensitivityOptions& s = options.sensitivity;
  key += fmt::format(" {} {} {} {} {}", s.probe.name(), s.r, s.n_seeds, options.sample_weights, options.n_anchors);
  if (options.method != SensitivityMethod::kProbes) key += fmt::format(" {}", method_name(options.method));
  return hash_bytes(std::as_bytes(std::span(key)));
}

std::string measured_key(const QuantizeOptions& quantize, const PlannerOptions& options) {
  if (!options.calibrated || !quantize.corpus) return "search";
  return fmt::format("calibrated {} {} {} {} {}", quantize.corpus->hash, quantize.corpus->chunks.size(), quantize.calibrated.damping,
                     quantize.calibrated.embedding_damping, quantize.calibrated.round.descent_passes);
}

void save_costs(const PlanCosts& costs, const std::string& key, const std::string& path) {
  Json json = to_json(costs);
  json["key"] = key;
  AtomicFile file(path);
  file.write(dump_json(json));
  file.commit();
}

std::optional<PlanCosts> load_costs(const Model& model, const std::string& key, const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return {};
  const Json json = parse_json(read_text_file(path, uint64_t{1} << 28), path);
  PlanCosts costs;
  try {
    if (json.at("key") != key) {
      note(fmt::format("{}: costs of another model, text or option: measured anew", path));
      return {};
    }
    costs.n_tokens_scored = json.at("tokens_scored");
    costs.seconds = json.at("seconds");
    costs.method = sensitivity_method(json.value("sensitivities", "probes"));
    costs.sensitivity_seconds = json.value("sensitivity_seconds", 0.0);
    costs.measured_by = json.at("measured_by");
    for (const Json& a : json.at("anchors")) {
      costs.anchors.push_back({a.at("name"), a.at("sum"), a.at("measured"), {}});
      for (const Json& type : a.at("types")) costs.anchors.back().types.push_back(&type_named(type.get<std::string>()));
    }
    for (const Json& t : json.at("tensors")) {
      TensorCosts tensor;
      tensor.sensitivity.tensor = &model.tensor(t.at("name").get<std::string>());
      tensor.sensitivity.alpha = t.at("alpha");
      tensor.sensitivity.spread = t.at("alpha_spread");
      if (costs.method == SensitivityMethod::kProbes) {
        tensor.sensitivity.r = t.at("probe").at("r");
        tensor.sensitivity.kld = t.at("probe").at("kld");
      }
      for (const Json& c : t.at("types")) {
        TypeCost cost;
        cost.type = &type_named(c.at("type").get<std::string>());
        cost.size_bytes = c.at("size_bytes");
        cost.search_error = c.at("search_error");
        cost.rounded_error = c.at("rounded_error");
        cost.windows = c.at("measured").get<std::vector<double>>();
        tensor.types.push_back(std::move(cost));
      }
      costs.tensors.push_back(std::move(tensor));
    }
  } catch (const Json::exception& e) {
    fail(ExitCode::kBadInput, "{}: no costs of a plan: {} (remove it, or name another file)", path, e.what());
  }
  return costs;
}

PlanCosts plan_costs(const Model& model, const Corpus& corpus, const QuantizeOptions& quantize,
                     const PlannerOptions& options, ThreadPool& pool) {
  const auto start = std::chrono::steady_clock::now();
  const std::string key = costs_key(model, corpus, quantize, options);
  if (!options.costs_path.empty())
    if (std::optional<PlanCosts> known = load_costs(model, key, options.costs_path)) {
      bool all = true;  // the types that are asked for, wherever they fit
      const std::vector<const TypeInfo*> wanted = options.allowed.empty() ? planner_types() : options.allowed;
      for (const TensorCosts& t : known->tensors)
        for (const auto* list : {&wanted, &options.known})
          for (const TypeInfo* type : *list)
            all &= t.sensitivity.tensor->n_cols() % type->block_len != 0 || t.find(*type) != nullptr ||
                   (is_small_block_type(*type) && list == &wanted && options.allowed.empty());
      if (all) {
        add_fixed_bytes(*known, model, quantize);
        if (known->measured_by != measured_key(quantize, options)) {  // rounded in another way
          known->measured_by.clear();
          for (TensorCosts& t : known->tensors)
            for (TypeCost& c : t.types) c.windows.clear();
        }
        finish_costs(*known, options);
        return std::move(*known);
      }
      note(fmt::format("{}: without the errors of some types that are asked for: measured anew", options.costs_path));
    }
  PlanCosts costs;
  costs.alignment = alignment_of(model);
  const size_t n_chunks = windows_that_fit(model, corpus);
  if (n_chunks < corpus.chunks.size())
    note(fmt::format("probes use {} of {} windows: more logits would not fit into {}", n_chunks, corpus.chunks.size(),
                     format_size(kLogitBytes)));
  HarmMeter meter(model, std::span(corpus.chunks).first(n_chunks), pool);
  costs.n_tokens_scored = meter.n_scored() * n_chunks;

  std::vector<const TypeInfo*> types = options.allowed.empty() ? planner_types() : options.allowed;
  for (const TypeInfo* type : options.known)
    if (std::find(types.begin(), types.end(), type) == types.end()) types.push_back(type);
  ErrorMeter errors(options, quantize, types, costs, pool);
  std::map<std::string, std::vector<TypeCost>> measured;
  std::set<std::string> linears;
  for (const Op& op : model.graph().ops)
    if (is_linear(op)) linears.insert(op.weight);
  for (const Op& op : model.graph().ops) {
    if (op.kind != OpKind::kEmbed || linears.contains(op.weight)) continue;
    const ModelTensor& tensor = model.tensor(op.weight);
    const auto metric = stream_metric(model, corpus, pool);
    const Curvature curvature(metric, tensor.n_cols(), 1, quantize.calibrated.embedding_damping, pool);
    measured[op.weight] = errors.table(tensor, corpus, curvature);
  }
  double error_seconds = 0;
  const auto visit = [&](const ReadGroup& group, const HarmMeter& at) {
    const auto visit_start = std::chrono::steady_clock::now();
    // By slots, every slot is a row: experts weigh as much as they are used.
    const size_t n = model.tensor(group.linears.front()->weight).n_cols();
    GramAccumulator gram(n, n, true);
    for (size_t c = 0; c < at.n_chunks(); ++c) {
      const auto& x = at.value(c, group.input);
      gram.add(x.data(), n, x.size() / n, pool);
    }
    const std::vector<uint64_t> usage = expert_usage(*group.linears.front(), at);
    std::vector<float> h(n * n);
    gram.finish(h);
    const Curvature curvature(h, n, gram.n_tokens(), quantize.calibrated.damping, pool);
    for (const Op* op : group.linears)
      if (model.tensor(op->weight).spec().quantizable && !measured.contains(op->weight))
        measured[op->weight] = errors.linear(model.tensor(op->weight), curvature, usage);
    error_seconds += seconds_since(visit_start);
  };
  costs.method = options.method;
  const auto sensitivity_start = std::chrono::steady_clock::now();
  std::vector<Sensitivity> found;
  if (options.method == SensitivityMethod::kFisher) {
    for (const GradientSensitivity& g : gradient_sensitivities(model, std::span(corpus.chunks).first(n_chunks), {}, pool)) {
      Sensitivity s;
      s.tensor = g.tensor;
      s.alpha = g.alpha_rows;  // errors of codecs follow the row
      s.spread = g.spread;
      found.push_back(s);
    }
    costs.sensitivity_seconds = seconds_since(sensitivity_start);
    const std::vector<ReadGroup> groups = read_groups(model.graph());
    Progress progress("errors", groups.size(), "inputs");
    meter.rewind();
    for (const ReadGroup& group : groups) {
      throw_if_interrupted();
      meter.advance(group.step);
      visit(group, meter);
      progress.advance(1, group.linears.front()->weight);
    }
    progress.finish();
  } else {
    found = sensitivities(model, meter, options.sensitivity, pool, visit);
    costs.sensitivity_seconds = seconds_since(sensitivity_start) - error_seconds;
  }
  for (Sensitivity& s : found) {
    TensorCosts t;
    t.sensitivity = std::move(s);
    costs.tensors.push_back(std::move(t));
  }
  for (TensorCosts& t : costs.tensors) t.types = std::move(measured.at(t.sensitivity.tensor->name()));

  add_fixed_bytes(costs, model, quantize);
  measure_anchors(costs, options, quantize.stats, meter, pool);
  costs.seconds = seconds_since(start);
  if (!options.costs_path.empty()) save_costs(costs, key, options.costs_path);
  finish_costs(costs, options);
  return costs;
}

}  // namespace tsubu
