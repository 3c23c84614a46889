#include "pipeline/planner.h"

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
#include "lens/draws.h"
#include "pipeline/stream_metric.h"

namespace tsubu {
namespace {

constexpr uint64_t kLogitBytes = uint64_t{1} << 30;  // kept of the float model
constexpr uint64_t kPanelRows = 16;                  // rounding works on so many rows
// What targets that make up for earlier errors take off a recipe's divergence beyond the tensors' own errors: measured, see
// bench/results/2026-11-26-plan.md.
constexpr double kCalibratedGain = 0.75;
// Standard deviations of ln(measured / predicted) on other text than the probes', without and with calibrated rounding.
constexpr double kSearchSpread = 0.15, kCalibratedSpread = 0.25;

// Types of blocks of 256 and what replaces them where rows are no multiple of it.
constexpr std::string_view kTypes[] = {"IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "Q2_K", "IQ3_XXS", "IQ3_S", "Q3_K", "IQ4_XS",
                                       "Q4_K", "Q5_K", "Q6_K", "Q8_0", "F16"};
constexpr std::string_view kSmallBlockTypes[] = {"Q4_0", "IQ4_NL", "Q4_1", "Q5_0", "Q5_1"};
constexpr uint64_t kSuperBlock = 256;

uint64_t aligned(uint64_t bytes, uint64_t alignment) { return (bytes + alignment - 1) / alignment * alignment; }

// Of tensors in the file.
uint64_t alignment_of(const Model& model) {
  GgufLayout layout;
  layout.metadata() = model.gguf_metadata();
  return layout.alignment();
}

bool is_small_block_type(const TypeInfo& type) {
  return std::find(std::begin(kSmallBlockTypes), std::end(kSmallBlockTypes), type.name) != std::end(kSmallBlockTypes);
}

// Measures the candidates' errors on some rows of a tensor.
class ErrorMeter {
 public:
  ErrorMeter(const PlannerOptions& options, const QuantizeOptions& quantize, std::vector<const TypeInfo*> types,
             uint64_t alignment, ThreadPool& pool)
      : options_(options), quantize_(quantize), types_(std::move(types)), alignment_(alignment), pool_(pool) {}

  // Against the mean Gram matrix of the tensor's input.
  std::vector<TypeCost> linear(const ModelTensor& tensor, const Curvature& curvature) {
    const uint64_t rows = tensor.n_rows(), n = tensor.n_cols();
    const uint64_t wanted = std::clamp<uint64_t>(options_.sample_weights / n / kPanelRows * kPanelRows, kPanelRows, rows);
    std::vector<uint64_t> sample;
    for (uint64_t i = 0; i < wanted; ++i) sample.push_back(i * rows / wanted);
    return costs(tensor, sample, curvature);
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
  std::vector<TypeCost> costs(const ModelTensor& tensor, const std::vector<uint64_t>& sample, const Curvature& curvature) {
    const uint64_t n = tensor.n_cols();
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
      cost.size_bytes = aligned(tensor_bytes(*type, tensor.n_rows(), n), alignment_);
      pool_.parallel_for(sample.size(), [&](size_t i, int) {
        kernels().encode[type->index](w.data() + i * n, weights, bytes.data() + i * row_bytes, n);
      });
      const auto error = [&] {
        if (unit <= 0) return 0.0;
        return form_error(w.data(), bytes.data(), sample.size(), *type, curvature.h(), n, pool_) / unit;
      };
      cost.search_error = cost.error = error();
      if ((options_.calibrated || !options_.costs_path.empty()) && type->is_quantized && can_round(*type)) {
        round_rows(w.data(), sample.size(), *type, curvature, quantize_.calibrated.round, bytes.data(), pool_);
        cost.error = std::min(error(), cost.search_error);
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
    values = it->second.mean_squares(0);
    return values.data();
  }

  const PlannerOptions& options_;
  const QuantizeOptions& quantize_;
  std::vector<const TypeInfo*> types_;
  uint64_t alignment_;
  ThreadPool& pool_;
};

// All rows of a tensor by plain search.
std::vector<std::byte> encode_tensor(const ModelTensor& tensor, const TypeInfo& type, const Imatrix* stats,
                                     ThreadPool& pool) {
  const uint64_t rows = tensor.n_rows(), n = tensor.n_cols(), row_bytes = n / type.block_len * type.block_bytes;
  std::vector<std::byte> bytes(rows * row_bytes);
  std::vector<float> importance;
  if (stats) {
    const auto it = stats->entries.find(tensor.name());
    if (it != stats->entries.end() && it->second.n_cols() == n) importance = it->second.mean_squares(0);
  }
  constexpr uint64_t kRows = 32;
  pool.parallel_for((rows + kRows - 1) / kRows, [&](size_t item, int) {
    const uint64_t first = item * kRows, count = std::min(kRows, rows - first);
    std::vector<float> x(count * n);
    tensor.read_rows(first, count, x.data());
    for (uint64_t r = 0; r < count; ++r)
      kernels().encode[type.index](x.data() + r * n, importance.empty() ? nullptr : importance.data(),
                                   bytes.data() + (first + r) * row_bytes, n);
  });
  return bytes;
}

}  // namespace

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

// Classes of the knapsack: one for each tensor, or for each set of tensors that must have one type.
struct Classes {
  std::vector<std::vector<size_t>> members;                    // tensors
  std::vector<std::vector<const TypeInfo*>> types;             // by class and choice
  std::vector<std::vector<AllocationChoice>> choices;          // weight: bytes, cost: α e
};

Classes classes_of(const PlanCosts& costs, const PlannerOptions& options, bool search = false) {
  Classes c;
  std::map<std::pair<int, std::string>, size_t> class_of;
  for (size_t t = 0; t < costs.tensors.size(); ++t) {
    const TensorSpec& spec = costs.tensors[t].sensitivity.tensor->spec();
    std::string key = spec.name;
    if (options.fused && spec.layer >= 0) {
      const Role r = spec.role;
      if (r == Role::kAttnQ || r == Role::kAttnK || r == Role::kAttnV) key = "qkv";
      if (r == Role::kFfnGate || r == Role::kFfnUp) key = "gate and up";
    }
    const auto [it, is_new] = class_of.emplace(std::pair(spec.layer, key), c.members.size());
    if (is_new) c.members.emplace_back();
    c.members[it->second].push_back(t);
  }
  const auto allowed = [&](const TypeInfo& type) {
    if (options.allowed.empty()) {
      const auto types = planner_types();
      return std::find(types.begin(), types.end(), &type) != types.end();
    }
    return std::find(options.allowed.begin(), options.allowed.end(), &type) != options.allowed.end();
  };
  for (const auto& members : c.members) {
    std::vector<const TypeInfo*> types;
    std::vector<AllocationChoice> choices;
    for (const TypeCost& first : costs.tensors[members.front()].types) {
      if (!allowed(*first.type)) continue;
      AllocationChoice choice;
      bool everywhere = true;
      for (size_t t : members) {
        const TypeCost* cost = costs.tensors[t].find(*first.type);
        everywhere &= cost != nullptr;
        if (!cost) continue;
        choice.weight += static_cast<double>(cost->size_bytes);
        choice.cost += costs.tensors[t].sensitivity.alpha * (search ? cost->search_error : cost->error);
      }
      if (!everywhere) continue;
      types.push_back(first.type);
      choices.push_back(choice);
    }
    if (types.empty()) {
      const ModelTensor& tensor = *costs.tensors[members.front()].sensitivity.tensor;
      fail(ExitCode::kUsage, "tensor {}: none of the allowed types fits its rows of {} (allow one with smaller blocks)",
           tensor.name(), tensor.n_cols());
    }
    c.types.push_back(std::move(types));
    c.choices.push_back(std::move(choices));
  }
  return c;
}

std::vector<const TypeInfo*> types_of(const PlanCosts& costs, const Classes& classes, const Allocation& allocation) {
  std::vector<const TypeInfo*> types(costs.tensors.size());
  for (size_t c = 0; c < classes.members.size(); ++c)
    for (size_t t : classes.members[c]) types[t] = classes.types[c][allocation.choice[c]];
  return types;
}

Plan finish(const PlanCosts& costs, const Classes& classes, const Allocation& allocation) {
  Plan plan;
  plan.types = types_of(costs, classes, allocation);
  plan.size_bytes = costs.size_bytes(plan.types);
  plan.bits_per_weight = 8.0 * static_cast<double>(plan.size_bytes - costs.metadata_bytes) / static_cast<double>(costs.n_weights);
  plan.predicted = costs.predict(plan.types);
  plan.is_optimal = allocation.is_optimal();
  plan.bound = allocation.bound;
  return plan;
}

// Recipes from the smallest to the largest that matters, planned ones and mixtures in turn: really rounded, measured.
void measure_anchors(PlanCosts& costs, const PlannerOptions& options, const Imatrix* stats, HarmMeter& meter,
                     ThreadPool& pool) {
  const Classes classes = classes_of(costs, options, true);
  const std::vector<Allocation> front = allocation_front(classes.choices);
  double n_bytes = 0;
  for (const TensorCosts& t : costs.tensors) n_bytes += static_cast<double>(t.sensitivity.tensor->n_elements()) / 8;
  Progress progress("measure", options.n_anchors, "recipes");
  for (uint32_t a = 0; a < options.n_anchors; ++a) {
    const double share = options.n_anchors > 1 ? static_cast<double>(a) / (options.n_anchors - 1) : 0.5;
    const double bits = 2.4 * std::pow(5.5 / 2.4, share);
    Allocation allocation = front.front();
    for (const Allocation& f : front)
      if (f.weight <= bits * n_bytes) allocation = f;
    std::vector<const TypeInfo*> types = types_of(costs, classes, allocation);
    Anchor anchor;
    anchor.name = fmt::format("plan of {:.2f} bits", 8 * allocation.weight / (8 * n_bytes));
    if (a % 2 == 1) {  // a mixture: every tensor a type or two off its own
      RowDraws draws(1, a, 0);
      for (size_t t = 0; t < types.size(); ++t) {
        const auto& known = costs.tensors[t].types;
        const auto at = static_cast<int64_t>(costs.tensors[t].find(*types[t]) - known.data());
        const auto moved = at + static_cast<int64_t>(draws.uniform() * 5) - 2;
        const TypeInfo* type = known[static_cast<size_t>(std::clamp<int64_t>(moved, 0, static_cast<int64_t>(known.size()) - 1))].type;
        types[t] = type;
      }
      anchor.name = fmt::format("mixture about {:.2f} bits", 8 * allocation.weight / (8 * n_bytes));
    }
    anchor.predicted = costs.sum(types, true);
    anchor.measured = measure_recipe(costs, types, stats, meter, pool).kld;
    if (anchor.predicted > 0 && anchor.measured > 0) costs.anchors.push_back(anchor);
    progress.advance(1, anchor.name);
  }
  progress.finish();
  std::sort(costs.anchors.begin(), costs.anchors.end(),
            [](const Anchor& a, const Anchor& b) { return a.predicted < b.predicted; });
}

}  // namespace

std::vector<const TypeInfo*> planner_types() {
  std::vector<const TypeInfo*> types;
  for (const std::string_view name : kTypes) types.push_back(&type_named(name));
  for (const std::string_view name : kSmallBlockTypes) types.push_back(&type_named(name));
  return types;
}

const TypeCost* TensorCosts::find(const TypeInfo& type) const {
  for (const TypeCost& t : types)
    if (t.type == &type) return &t;
  return nullptr;
}

double PlanCosts::sum(const std::vector<const TypeInfo*>& types, bool search) const {
  double total = 0;
  for (size_t t = 0; t < tensors.size(); ++t) {
    const TypeCost* cost = tensors[t].find(*types[t]);
    if (!cost)
      fail(ExitCode::kUsage, "{}: the error of type {} was not measured (name it with --allow)",
           tensors[t].sensitivity.tensor->name(), types[t]->name);
    total += tensors[t].sensitivity.alpha * (search ? cost->search_error : cost->error);
  }
  return total;
}

Prediction PlanCosts::predict(double sum) const {
  if (sum <= 0) return {};
  double correction = 0;
  if (!anchors.empty()) {
    const auto at = [&](size_t i) { return std::log(anchors[i].measured / anchors[i].predicted); };
    const double x = std::log(sum);
    size_t i = 0;
    while (i < anchors.size() && std::log(anchors[i].predicted) < x) ++i;
    if (i == 0 || i == anchors.size()) {
      correction = at(i == 0 ? 0 : i - 1);
    } else {
      const double a = std::log(anchors[i - 1].predicted), b = std::log(anchors[i].predicted);
      const double share = b > a ? (x - a) / (b - a) : 0.5;
      correction = (1 - share) * at(i - 1) + share * at(i);
    }
  }
  Prediction p;
  p.mean = sum * std::exp(correction) * gain;
  p.low = p.mean * std::exp(-1.96 * spread);
  p.high = p.mean * std::exp(1.96 * spread);
  return p;
}

double PlanCosts::sum_for(double kld) const {
  double low = -60, high = 20;  // of ln sum
  for (int i = 0; i < 100; ++i) {
    const double middle = (low + high) / 2;
    (predict(std::exp(middle)).mean <= kld ? low : high) = middle;
  }
  return std::exp(low);
}

uint64_t PlanCosts::size_bytes(const std::vector<const TypeInfo*>& types) const {
  uint64_t total = fixed_bytes;
  for (size_t t = 0; t < tensors.size(); ++t) {
    const ModelTensor& tensor = *tensors[t].sensitivity.tensor;
    total += aligned(tensor_bytes(*types[t], tensor.n_rows(), tensor.n_cols()), alignment);
  }
  return total;
}

namespace {

// The file's bytes besides the planned tensors: those of a recipe without what they take in it.
void add_fixed_bytes(PlanCosts& costs, const Model& model, const QuantizeOptions& quantize) {
  const Recipe f16 = recipe_named("F16");
  costs.alignment = alignment_of(model);
  costs.fixed_bytes = quantized_bytes(model, f16, quantize);
  const std::vector<const TypeInfo*> as_f16 = recipe_types(model, costs, f16, quantize.plan);
  for (size_t t = 0; t < costs.tensors.size(); ++t) {
    const ModelTensor& tensor = *costs.tensors[t].sensitivity.tensor;
    costs.fixed_bytes -= aligned(tensor_bytes(*as_f16[t], tensor.n_rows(), tensor.n_cols()), costs.alignment);
  }
  std::set<std::string> names;
  for (const TensorCosts& t : costs.tensors) names.insert(t.sensitivity.tensor->name());
  uint64_t others = 0;
  costs.n_weights = 0;
  for (const PlannedTensor& p : assign_types(model, f16, quantize.plan)) {
    costs.n_weights += p.tensor->n_elements();
    if (!names.contains(p.tensor->name())) others += aligned(p.size_bytes, costs.alignment);
  }
  costs.metadata_bytes = costs.fixed_bytes - others;
}

void finish_costs(PlanCosts& costs, const Model& model, const QuantizeOptions& quantize, const PlannerOptions& options) {
  add_fixed_bytes(costs, model, quantize);
  costs.gain = options.calibrated ? kCalibratedGain : 1;
  costs.spread = options.calibrated ? kCalibratedSpread : kSearchSpread;
  if (options.calibrated) return;
  for (TensorCosts& t : costs.tensors)
    for (TypeCost& c : t.types) c.error = c.search_error;
}

}  // namespace

std::string costs_key(const Model& model, const Corpus& probes, const QuantizeOptions& quantize, const PlannerOptions& options) {
  std::string key = fmt::format("{} {} {}", TSUBU_VERSION, probes.hash, probes.chunks.size());
  for (const std::string& file : model.files())
    key += fmt::format(" {}:{}:{}", file, std::filesystem::file_size(file),
                       std::filesystem::last_write_time(file).time_since_epoch().count());
  if (quantize.stats) key += " " + hash_file(quantize.stats_path);
  const SensitivityOptions& s = options.sensitivity;
  key += fmt::format(" {} {} {} {} {}", s.probe.name(), s.r, s.n_seeds, options.sample_weights, options.n_anchors);
  return hash_bytes(std::as_bytes(std::span(key)));
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
    for (const Json& a : json.at("anchors")) costs.anchors.push_back({a.at("name"), a.at("sum"), a.at("measured")});
    for (const Json& t : json.at("tensors")) {
      TensorCosts tensor;
      tensor.sensitivity.tensor = &model.tensor(t.at("name").get<std::string>());
      tensor.sensitivity.alpha = t.at("alpha");
      tensor.sensitivity.spread = t.at("alpha_spread");
      tensor.sensitivity.r = t.at("probe").at("r");
      tensor.sensitivity.kld = t.at("probe").at("kld");
      for (const Json& c : t.at("types"))
        tensor.types.push_back({&type_named(c.at("type").get<std::string>()), c.at("size_bytes"), c.at("error"), c.at("search_error")});
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
        finish_costs(*known, model, quantize, options);
        return std::move(*known);
      }
      note(fmt::format("{}: without the errors of some types that are asked for: measured anew", options.costs_path));
    }
  PlanCosts costs;
  costs.alignment = alignment_of(model);
  size_t n_chunks = corpus.chunks.size();
  while (n_chunks > 1 && HarmMeter::logit_bytes(model, corpus.context, n_chunks) > kLogitBytes) --n_chunks;
  if (n_chunks < corpus.chunks.size())
    note(fmt::format("probes use {} of {} windows: more logits would not fit into {}", n_chunks, corpus.chunks.size(),
                     format_size(kLogitBytes)));
  HarmMeter meter(model, std::span(corpus.chunks).first(n_chunks), pool);
  costs.n_tokens_scored = meter.n_scored() * n_chunks;

  std::vector<const TypeInfo*> types = options.allowed.empty() ? planner_types() : options.allowed;
  for (const TypeInfo* type : options.known)
    if (std::find(types.begin(), types.end(), type) == types.end()) types.push_back(type);
  ErrorMeter errors(options, quantize, types, costs.alignment, pool);
  std::map<std::string, std::vector<TypeCost>> measured;
  std::set<std::string> linears;
  for (const Op& op : model.graph().ops)
    if (op.kind == OpKind::kLinear) linears.insert(op.weight);
  for (const Op& op : model.graph().ops) {
    if (op.kind != OpKind::kEmbed || linears.contains(op.weight)) continue;
    const ModelTensor& tensor = model.tensor(op.weight);
    const auto metric = stream_metric(model, corpus, pool);
    const Curvature curvature(metric, tensor.n_cols(), 1, quantize.calibrated.embedding_damping, pool);
    measured[op.weight] = errors.table(tensor, corpus, curvature);
  }
  const auto visit = [&](const ReadGroup& group, const HarmMeter& at) {
    const size_t n = model.graph().widths[static_cast<size_t>(group.input)];
    GramAccumulator gram(n, n, true);
    for (size_t c = 0; c < at.n_chunks(); ++c) gram.add(at.value(c, group.input).data(), n, at.context() - 1, pool);
    std::vector<float> h(n * n);
    gram.finish(h);
    const Curvature curvature(h, n, gram.n_tokens(), quantize.calibrated.damping, pool);
    for (const Op* op : group.linears)
      if (model.tensor(op->weight).spec().quantizable && !measured.contains(op->weight))
        measured[op->weight] = errors.linear(model.tensor(op->weight), curvature);
  };
  for (Sensitivity& s : sensitivities(model, meter, options.sensitivity, pool, visit)) {
    TensorCosts t;
    t.sensitivity = std::move(s);
    costs.tensors.push_back(std::move(t));
  }
  for (TensorCosts& t : costs.tensors) t.types = std::move(measured.at(t.sensitivity.tensor->name()));

  measure_anchors(costs, options, quantize.stats, meter, pool);
  costs.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (!options.costs_path.empty()) save_costs(costs, key, options.costs_path);
  finish_costs(costs, model, quantize, options);
  return costs;
}

Plan make_plan(const PlanCosts& costs, const PlannerOptions& options, const PlanTarget& target) {
  Classes classes = classes_of(costs, options);
  if (target.max_kld > 0) {
    std::vector<std::vector<AllocationChoice>> swapped = classes.choices;
    for (auto& choices : swapped)
      for (AllocationChoice& choice : choices) std::swap(choice.weight, choice.cost);
    const Allocation a = allocate(swapped, costs.sum_for(target.max_kld));
    if (!a.feasible)
      fail(ExitCode::kUsage, "a divergence of {:g} cannot be reached with these types: the least is {:.3g}", target.max_kld,
           costs.predict(a.weight).mean);
    Plan plan = finish(costs, classes, a);
    if (target.max_bytes > 0 && plan.size_bytes > target.max_bytes)
      fail(ExitCode::kUsage, "a divergence of {:g} takes {} ({} were asked for at most)", target.max_kld,
           format_size(plan.size_bytes), format_size(target.max_bytes));
    return plan;
  }
  const double budget = static_cast<double>(target.max_bytes) - static_cast<double>(costs.fixed_bytes);
  const Allocation a = allocate(classes.choices, budget);
  if (!a.feasible)
    fail(ExitCode::kUsage, "{} is less than this model takes with these types: {} ({:.2f} bits per weight)",
         format_size(target.max_bytes), format_size(costs.fixed_bytes + static_cast<uint64_t>(a.weight)),
         8.0 * (a.weight + static_cast<double>(costs.fixed_bytes - costs.metadata_bytes)) / static_cast<double>(costs.n_weights));
  return finish(costs, classes, a);
}

std::vector<Plan> plan_front(const PlanCosts& costs, const PlannerOptions& options) {
  const Classes classes = classes_of(costs, options);
  std::vector<Plan> plans;
  for (const Allocation& a : allocation_front(classes.choices)) plans.push_back(finish(costs, classes, a));
  return plans;
}

Recipe plan_recipe(const PlanCosts& costs, const Plan& plan, const std::string& name) {
  Recipe recipe;
  recipe.name = name;
  recipe.summary = fmt::format("{:.3f} bits per weight, predicted divergence {:.3g} [{:.3g}, {:.3g}]", plan.bits_per_weight,
                               plan.predicted.mean, plan.predicted.low, plan.predicted.high);
  std::map<const TypeInfo*, uint64_t> weights;
  for (size_t t = 0; t < plan.types.size(); ++t)
    weights[plan.types[t]] += costs.tensors[t].sensitivity.tensor->n_elements();
  const TypeInfo* most = plan.types.front();
  for (const TypeInfo& type : types())
    if (weights.contains(&type) && weights[&type] > weights[most]) most = &type;
  recipe.default_type = most->name;
  for (const Recipe& stock : recipes())
    if (stock.default_type == recipe.default_type && recipe.file_type == 0) recipe.file_type = stock.file_type;
  for (const TypeInfo& type : types()) {
    if (!weights.contains(&type)) continue;
    RecipeRule rule;
    rule.type = type.name;
    for (size_t t = 0; t < plan.types.size(); ++t)
      if (plan.types[t] == &type) rule.tensors.push_back(costs.tensors[t].sensitivity.tensor->name());
    recipe.rules.push_back(std::move(rule));
  }
  return recipe;
}

std::string tensor_type_file(const PlanCosts& costs, const Plan& plan) {
  std::string text;
  for (size_t t = 0; t < plan.types.size(); ++t) {
    text += '^';
    for (const char c : costs.tensors[t].sensitivity.tensor->name()) text += c == '.' ? std::string("\\.") : std::string(1, c);
    text += fmt::format("$={}\n", plan.types[t]->name);
  }
  return text;
}

std::vector<const TypeInfo*> recipe_types(const Model& model, const PlanCosts& costs, const Recipe& recipe,
                                          const PlanOptions& options) {
  PlanOptions with_stats = options;
  with_stats.has_stats = true;
  std::map<std::string, const TypeInfo*> types;
  for (const PlannedTensor& p : assign_types(model, recipe, with_stats)) types[p.tensor->name()] = p.type;
  std::vector<const TypeInfo*> result;
  for (const TensorCosts& t : costs.tensors) result.push_back(types.at(t.sensitivity.tensor->name()));
  return result;
}

Json to_json(const PlanCosts& costs) {
  Json json;
  json["n_weights"] = costs.n_weights;
  json["metadata_bytes"] = costs.metadata_bytes;
  json["fixed_bytes"] = costs.fixed_bytes;
  json["tokens_scored"] = costs.n_tokens_scored;
  json["gain"] = costs.gain;
  json["spread"] = costs.spread;
  json["seconds"] = costs.seconds;
  json["anchors"] = Json::array();
  for (const Anchor& a : costs.anchors)
    json["anchors"].push_back({{"name", a.name}, {"sum", a.predicted}, {"measured", a.measured}});
  json["tensors"] = Json::array();
  for (const TensorCosts& t : costs.tensors) {
    Json item{{"name", t.sensitivity.tensor->name()},
              {"role", role_name(t.sensitivity.tensor->spec().role)},
              {"layer", t.sensitivity.tensor->spec().layer},
              {"alpha", t.sensitivity.alpha},
              {"alpha_spread", t.sensitivity.spread},
              {"probe", {{"r", t.sensitivity.r}, {"kld", t.sensitivity.kld}}}};
    item["types"] = Json::array();
    for (const TypeCost& c : t.types)
      item["types"].push_back({{"type", c.type->name},
                               {"size_bytes", c.size_bytes},
                               {"error", c.error},
                               {"search_error", c.search_error},
                               {"harm", t.sensitivity.alpha * c.error}});
    json["tensors"].push_back(std::move(item));
  }
  return json;
}

Json to_json(const Plan& plan, const PlanCosts& costs) {
  Json json;
  json["size_bytes"] = plan.size_bytes;
  json["bits_per_weight"] = plan.bits_per_weight;
  json["predicted"] = {{"mean", plan.predicted.mean}, {"ci95", {plan.predicted.low, plan.predicted.high}}};
  json["is_optimal"] = plan.is_optimal;
  json["types"] = Json::object();
  for (size_t t = 0; t < plan.types.size(); ++t)
    json["types"][costs.tensors[t].sensitivity.tensor->name()] = plan.types[t]->name;
  return json;
}

}  // namespace tsubu
