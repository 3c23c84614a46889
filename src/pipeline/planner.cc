#include "pipeline/planner.h"

#include <algorithm>
#include <cmath>

#include <fmt/ranges.h>

#include "base/error.h"
#include "base/size.h"

namespace tsubu {
namespace {

// Types of blocks of 256 and what replaces them where rows are no multiple of it.
constexpr std::string_view kTypes[] = {"IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "Q2_K", "IQ3_XXS", "IQ3_S", "Q3_K", "IQ4_XS",
                                       "Q4_K", "Q5_K", "Q6_K", "Q8_0", "F16"};
constexpr std::string_view kSmallBlockTypes[] = {"Q4_0", "IQ4_NL", "Q4_1", "Q5_0", "Q5_1"};
// What predicted costs of single tensors are off by before any is measured: standard deviations of ln, of a tensor and of a type
// of it (docs/decisions/planning.md).
constexpr CostModel kPredictedScatter = {0, 0.2, 0.1};
// Classes of the knapsack: one for each tensor, or for each set of tensors that must have one type.
struct Classes {
  std::vector<std::vector<size_t>> members;                    // tensors
  std::vector<std::vector<const TypeInfo*>> types;             // by class and choice
  std::vector<std::vector<AllocationChoice>> choices;          // weight: bytes, cost: c
};

Classes classes_of(const PlanCosts& costs, const PlannerOptions& options) {
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
  for (const auto& members : c.members) {
    std::vector<const TypeInfo*> types;
    std::vector<AllocationChoice> choices;
    for (const TypeCost& first : costs.tensors[members.front()].types) {
      if (!may_choose(options, *costs.tensors[members.front()].sensitivity.tensor, *first.type)) continue;
      AllocationChoice choice;
      bool everywhere = true;
      for (size_t t : members) {
        const TypeCost* cost = costs.tensors[t].find(*first.type);
        everywhere &= cost != nullptr;
        if (!cost) continue;
        choice.weight += static_cast<double>(cost->size_bytes);
        choice.cost += cost->cost;
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

}  // namespace

SensitivityMethod sensitivity_method(std::string_view name) {
  const auto found = std::find(std::begin(kSensitivityMethods), std::end(kSensitivityMethods), name);
  if (found == std::end(kSensitivityMethods))
    fail(ExitCode::kUsage, "sensitivities by '{}': there are {}", name, fmt::join(kSensitivityMethods, " and "));
  return static_cast<SensitivityMethod>(found - std::begin(kSensitivityMethods));
}

bool is_small_block_type(const TypeInfo& type) {
  return std::find(std::begin(kSmallBlockTypes), std::end(kSmallBlockTypes), type.name) != std::end(kSmallBlockTypes);
}

bool may_choose(const PlannerOptions& options, const ModelTensor& tensor, const TypeInfo& type) {
  const Role role = tensor.spec().role;
  if (options.float_tables && (role == Role::kTokenEmbedding || role == Role::kOutput)) return type.name == "F16";
  const std::vector<const TypeInfo*> types = options.allowed.empty() ? planner_types() : options.allowed;
  return std::find(types.begin(), types.end(), &type) != types.end();
}

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

void PlanCosts::weigh() {
  std::vector<CostEvidence> evidence;
  bool any = false;
  for (size_t t = 0; t < tensors.size(); ++t)
    for (const TypeCost& c : tensors[t].types) {
      evidence.push_back({t, c.type->is_quantized ? tensors[t].sensitivity.alpha * c.error : 0, c.windows});
      any |= !c.windows.empty();
    }
  const std::vector<CostEstimate> estimates = combine_costs(evidence, kPredictedScatter, &scatter);
  size_t i = 0;
  for (TensorCosts& t : tensors)
    for (TypeCost& c : t.types) {
      const CostEstimate& e = estimates[i++];
      // A type of floats is not measured: nothing hangs on it.
      c.cost = any && c.type->is_quantized ? e.cost : t.sensitivity.alpha * c.error;
      c.spread = c.type->is_quantized ? e.spread : 0;
    }
  if (!calibrated)
    for (Anchor& a : anchors) a.predicted = sum(a.types);
  std::sort(anchors.begin(), anchors.end(), [](const Anchor& a, const Anchor& b) { return a.predicted < b.predicted; });
}

double PlanCosts::sum(const std::vector<const TypeInfo*>& types, bool search) const {
  double total = 0;
  for (size_t t = 0; t < tensors.size(); ++t) {
    const TypeCost* cost = tensors[t].find(*types[t]);
    if (!cost)
      fail(ExitCode::kUsage, "{}: the error of type {} was not measured (name it with --allow)",
           tensors[t].sensitivity.tensor->name(), types[t]->name);
    total += search && calibrated ? tensors[t].sensitivity.alpha * cost->search_error : cost->cost;
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

uint64_t PlanCosts::padded_bytes(const ModelTensor& tensor, const TypeInfo& type) const {
  return (tensor_bytes(type, tensor.n_rows(), tensor.n_cols()) + alignment - 1) / alignment * alignment;
}

uint64_t PlanCosts::size_bytes(const std::vector<const TypeInfo*>& types) const {
  uint64_t total = fixed_bytes;
  for (size_t t = 0; t < tensors.size(); ++t) {
    const ModelTensor& tensor = *tensors[t].sensitivity.tensor;
    total += padded_bytes(tensor, *types[t]);
  }
  return total;
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

double byte_price(const PlanCosts& costs, const std::vector<Plan>& front, uint64_t size_bytes) {
  if (front.size() < 2) return 0;
  size_t above = 1;
  while (above + 1 < front.size() && front[above].size_bytes <= size_bytes) ++above;
  const double saved = costs.sum(front[above - 1].types) - costs.sum(front[above].types);
  return saved / std::max(1.0, static_cast<double>(front[above].size_bytes) - static_cast<double>(front[above - 1].size_bytes));
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
  if (!costs.unplanned.empty()) {
    RecipeRule rule;
    rule.type = "F16";
    rule.tensors = costs.unplanned;
    recipe.rules.push_back(std::move(rule));
  }
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
  for (size_t t = 0; t < plan.types.size(); ++t)
    text += fmt::format("{}={}\n", exact_pattern(costs.tensors[t].sensitivity.tensor->name()), plan.types[t]->name);
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
  json["sensitivities"] = method_name(costs.method);
  json["sensitivity_seconds"] = costs.sensitivity_seconds;
  json["measured_by"] = costs.measured_by;
  json["scatter"] = {{"level", costs.scatter.level}, {"between", costs.scatter.between}, {"within", costs.scatter.within}};
  json["anchors"] = Json::array();
  for (const Anchor& a : costs.anchors) {
    Json item{{"name", a.name}, {"sum", a.predicted}, {"measured", a.measured}, {"types", Json::array()}};
    for (const TypeInfo* type : a.types) item["types"].push_back(type->name);
    json["anchors"].push_back(std::move(item));
  }
  json["tensors"] = Json::array();
  for (const TensorCosts& t : costs.tensors) {
    Json item{{"name", t.sensitivity.tensor->name()},
              {"role", role_name(t.sensitivity.tensor->spec().role)},
              {"layer", t.sensitivity.tensor->spec().layer},
              {"alpha", t.sensitivity.alpha},
              {"alpha_spread", t.sensitivity.spread}};
    if (costs.method == SensitivityMethod::kProbes) item["probe"] = {{"r", t.sensitivity.r}, {"kld", t.sensitivity.kld}};
    item["types"] = Json::array();
    for (const TypeCost& c : t.types)
      item["types"].push_back({{"type", c.type->name},
                               {"size_bytes", c.size_bytes},
                               {"error", c.error},
                               {"search_error", c.search_error},
                               {"rounded_error", c.rounded_error},
                               {"harm", c.cost},
                               {"harm_spread", c.spread},
                               {"measured", c.windows}});
    json["tensors"].push_back(std::move(item));
  }
  return json;
}

Json to_json(const Refinement& r) {
  Json json{{"measured", r.n_measured}, {"known", r.n_known},       {"rounds", r.n_rounds},
            {"stable", r.is_stable},    {"seconds", r.seconds},     {"sum_before", r.first_cost},
            {"sum_after", r.last_cost}, {"changes", Json::array()}};
  for (const PlanChange& c : r.changes)
    json["changes"].push_back({{"tensor", c.tensor->name()}, {"before", c.before->name}, {"after", c.after->name}});
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
