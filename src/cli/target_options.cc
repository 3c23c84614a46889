#include "cli/target_options.h"

#include <algorithm>
#include <cmath>

#include "base/size.h"
#include "cli/checks.h"
#include "cli/output.h"
#include "cli/table.h"

namespace tsubu {
namespace {

constexpr size_t kFrontRows = 16;
constexpr size_t kPlotWidth = 64, kPlotHeight = 12;
constexpr double kLeastPlotted = 1e-6;  // of the largest divergence: what is exact in F16 would squeeze the rest into a line

std::string kld_text(double kld) { return fmt::format("{:.3g}", kld); }
std::string kld_text(const Prediction& p) { return fmt::format("{:.3g} [{:.3g}, {:.3g}]", p.mean, p.low, p.high); }

// Front points spread evenly over the bits.
std::vector<size_t> thinned(const std::vector<Plan>& front, size_t n) {
  std::vector<size_t> picked;
  if (front.empty()) return picked;
  const double low = front.front().bits_per_weight, high = front.back().bits_per_weight;
  double next = low;
  for (size_t i = 0; i < front.size(); ++i) {
    if (front[i].bits_per_weight < next && i + 1 < front.size()) continue;
    picked.push_back(i);
    next = std::max(front[i].bits_per_weight * std::pow(high / low, 1.0 / static_cast<double>(n)), next);
  }
  return picked;
}

std::string plot(const std::vector<Plan>& front) {
  double most = 0;
  for (const Plan& p : front) most = std::max(most, p.predicted.mean);
  std::vector<const Plan*> points;
  for (const Plan& p : front)
    if (p.predicted.mean > kLeastPlotted * most) points.push_back(&p);
  if (points.size() < 2) return "";
  const double x0 = std::log(points.front()->bits_per_weight), x1 = std::log(points.back()->bits_per_weight);
  double y0 = 1e300, y1 = -1e300;
  for (const Plan* p : points) {
    y0 = std::min(y0, std::log10(p->predicted.mean));
    y1 = std::max(y1, std::log10(p->predicted.mean));
  }
  if (!(x1 > x0) || !(y1 > y0)) return "";
  std::vector<std::string> lines(kPlotHeight, std::string(kPlotWidth, ' '));
  for (const Plan* p : points) {
    const auto x = static_cast<size_t>((std::log(p->bits_per_weight) - x0) / (x1 - x0) * (kPlotWidth - 1) + 0.5);
    const auto y = static_cast<size_t>((y1 - std::log10(p->predicted.mean)) / (y1 - y0) * (kPlotHeight - 1) + 0.5);
    lines[y][x] = '*';
  }
  std::string text = "  divergence (logarithmic) over bits per weight (logarithmic)\n";
  for (size_t i = 0; i < kPlotHeight; ++i) {
    const double y = std::pow(10, y1 - (y1 - y0) * static_cast<double>(i) / (kPlotHeight - 1));
    std::string line = lines[i];
    while (!line.empty() && line.back() == ' ') line.pop_back();
    text += fmt::format("  {:>9} |{}\n", i % 3 == 0 || i + 1 == kPlotHeight ? kld_text(y) : "", line);
  }
  text += fmt::format("            {:-<{}}\n            {:<{}.2f}{:.2f}\n", "", kPlotWidth, std::exp(x0), kPlotWidth - 4, std::exp(x1));
  return text;
}

}  // namespace

void declare_target(CLI::App& app, TargetChoice& choice) {
  auto* size = app.add_option("--size", choice.size, "Size of the file at most, such as 6GiB")->type_name("S");
  auto* bits = app.add_option("--bpw", choice.bits_per_weight, "Bits per weight at most (everything but metadata)")->type_name("B");
  auto* kld = app.add_option("--max-kld", choice.max_kld, "Mean divergence at most, in the smallest file")
                  ->check(number_between(1e-9, 1e3))
                  ->type_name("K");
  size->excludes(bits)->excludes(kld);
  bits->excludes(kld);
  app.add_option("--allow", choice.allow, "Types to choose from (default: k-quants, IQ types, Q8_0, F16); repeatable")
      ->delimiter(',')
      ->type_name("TYPES")
      ->allow_extra_args(false);
  app.add_flag("--fused", choice.fused, "One type for q, k and v of a layer, one for gate and up");
  app.add_option("--costs", choice.costs, "File of what was measured: read when it fits, else written; for several sizes of one model")
      ->type_name("F.json");
  app.add_option("--measure", choice.measure,
                 "Minutes to measure single tensors in types that the plan might change to; 0: none (default: about four for "
                 "each tensor, whatever time they take)")
      ->check(CLI::Range(0.0, 1e6))
      ->type_name("MINUTES");
  app.add_option("--sensitivities", choice.sensitivities,
                 "Where they come from: probes (default), noise in one tensor at a time; fisher, gradients of all tensors at once")
      ->type_name("probes|fisher");
  app.add_option("--probes", choice.probes, "Windows of the text that sensitivities are measured on (default 16)")
      ->check(CLI::Range(1, 1 << 20))
      ->type_name("N");
  app.add_option("--verify", choice.held_out, "Windows to measure results on, kept from the rounding (default 32)")
      ->check(CLI::Range(1, 1 << 20))
      ->type_name("N");
}

std::vector<const TypeInfo*> allowed_types(const TargetChoice& choice) {
  std::vector<const TypeInfo*> types;
  for (const std::string& name : choice.allow) {
    const TypeInfo& type = type_named(name);
    if (!type.encode) fail(ExitCode::kUnsupported, "type {} can be read but not written yet (`tsubu types` says which can)", type.name);
    types.push_back(&type);
  }
  return types;
}

namespace {

// Before anything is measured: a file that is smaller than its matrices in the smallest of the types.
void check_size(const TargetChoice& choice, const Model& model, uint64_t max_bytes) {
  std::vector<const TypeInfo*> types = allowed_types(choice);
  if (types.empty()) types = planner_types();
  uint64_t least = 0;
  for (const ModelTensor& tensor : model.tensors()) {
    if (!tensor.spec().quantizable) continue;
    std::optional<uint64_t> smallest;
    for (const TypeInfo* type : types)
      if (tensor.n_cols() % type->block_len == 0) {
        const uint64_t bytes = tensor.n_elements() / type->block_len * type->block_bytes;
        smallest = std::min(smallest.value_or(bytes), bytes);
      }
    least += smallest.value_or(0);
  }
  if (max_bytes < least)
    fail(ExitCode::kUsage, "{} is less than this model's matrices take in the smallest of the types: {}", format_size(max_bytes),
         format_size(least));
}

}  // namespace

PlanTarget make_target(const TargetChoice& choice, const Model& model, const QuantizeOptions& quantize) {
  PlanTarget target;
  target.max_kld = choice.max_kld;
  if (!choice.size.empty()) target.max_bytes = parse_size_bytes(choice.size);
  if (!choice.size.empty()) check_size(choice, model, target.max_bytes);
  if (choice.bits_per_weight.empty()) return target;
  // Everything in the file but the metadata: that of any recipe has the same size.
  const Recipe f32 = recipe_named("F32");
  PlanOptions plan = quantize.plan;
  plan.overrides.clear();
  uint64_t n_weights = 0, tensors = 0;
  for (const PlannedTensor& p : assign_types(model, f32, plan)) {
    n_weights += p.tensor->n_elements();
    tensors += p.size_bytes;
  }
  QuantizeOptions as_f32 = quantize;
  as_f32.plan = plan;
  const uint64_t metadata = quantized_bytes(model, f32, as_f32) - tensors;
  target.max_bytes = metadata + static_cast<uint64_t>(parse_bits_per_weight(choice.bits_per_weight) * static_cast<double>(n_weights) / 8);
  check_size(choice, model, target.max_bytes);
  return target;
}

MeasureOptions measure_options(const TargetChoice& choice) {
  MeasureOptions measure;
  if (choice.measure) measure.seconds = 60 * *choice.measure;
  return measure;
}

std::string refinement_text(const Refinement& r, const PlanCosts& costs) {
  if (r.n_measured + r.n_known == 0) return "";
  std::string text = fmt::format("{} costs of single tensors measured{} in {}: ", r.n_measured,
                                 r.n_known > 0 ? fmt::format(" ({} were known)", r.n_known) : "", format_duration(r.seconds));
  text += r.is_stable ? "no other is likely to change the plan\n" : "others may change the plan still (--measure MINUTES for more)\n";
  text += fmt::format("measured over predicted: {:.2f} on the whole, {:.0f} % from tensor to tensor, {:.0f} % from type to type\n",
                      std::exp(costs.scatter.level), 100 * costs.scatter.between, 100 * costs.scatter.within);
  if (r.changes.empty()) return text + "the plan stays as it was predicted\n";
  text += fmt::format("changed by that, {:.1f} % less divergence:\n", 100 * (1 - r.last_cost / r.first_cost));
  Table table({"tensor", "was", "is"});
  for (const PlanChange& c : r.changes)
    table.add({c.tensor->name(), std::string(c.before->name), std::string(c.after->name)});
  return text + table.text(2);
}

std::string plan_text(const PlanCosts& costs, const Plan& plan, const std::vector<Plan>& front, const PlannerOptions& options) {
  Table table({"tensor", "type", ">size", ">sensitivity", ">error", ">of the divergence", "which is", "one step down"});
  const double total = costs.sum(plan.types);
  for (size_t t = 0; t < plan.types.size(); ++t) {
    const TensorCosts& tensor = costs.tensors[t];
    const TypeCost& chosen = *tensor.find(*plan.types[t]);
    const TypeCost* smaller = nullptr;  // the next that the plan could have taken
    for (const TypeCost& c : tensor.types)
      if (c.size_bytes < chosen.size_bytes && c.cost > chosen.cost && (!smaller || c.cost < smaller->cost) &&
          may_choose(options, *tensor.sensitivity.tensor, *c.type))
        smaller = &c;
    table.add({tensor.sensitivity.tensor->name(), std::string(chosen.type->name), format_size(chosen.size_bytes),
               fmt::format("{:.3g}", tensor.sensitivity.alpha), fmt::format("{:.3g}", chosen.error),
               fmt::format("{:.1f} %", 100 * chosen.cost / total), chosen.windows.empty() ? "predicted" : "measured",
               smaller ? fmt::format("{} saves {} and adds {:.1f} %", smaller->type->name,
                                     format_size(chosen.size_bytes - smaller->size_bytes),
                                     100 * (smaller->cost - chosen.cost) / total)
                       : "already the smallest"});
  }
  std::string text = table.text(2);
  text += fmt::format("{}: {:.4f} bits per weight; predicted divergence {} nats; {}\n", format_size(plan.size_bytes),
                      plan.bits_per_weight, kld_text(plan.predicted),
                      plan.is_optimal ? "no allocation is predicted better (proved)"
                                      : "an allocation better than the best known one is not ruled out");
  text += "sensitivity: divergence per unit of squared relative error; error: that unit, of the rounding, weighted by the "
          "inputs\n";
  if (const double price = byte_price(costs, front, plan.size_bytes); price > 0 && total > 0)
    text += fmt::format("at this size 1 % of the divergence is worth about {}: a step down pays that saves more for each % it adds\n",
                        format_size(static_cast<uint64_t>(0.01 * total / price)));
  return text;
}

std::string front_text(const std::vector<Plan>& front, const PlanCosts& costs) {
  Table table({">bits per weight", ">size", ">predicted divergence", "most weights in"});
  for (const size_t i : thinned(front, kFrontRows)) {
    std::map<std::string_view, double> share;
    double all = 0;
    for (size_t t = 0; t < front[i].types.size(); ++t) {
      const auto n = static_cast<double>(costs.tensors[t].sensitivity.tensor->n_elements());
      share[front[i].types[t]->name] += n;
      all += n;
    }
    std::vector<std::pair<double, std::string_view>> sorted;
    for (const auto& [name, n] : share) sorted.emplace_back(-n / all, name);
    std::sort(sorted.begin(), sorted.end());
    std::string types;
    for (size_t k = 0; k < std::min<size_t>(3, sorted.size()); ++k)
      types += fmt::format("{}{} {:.0f} %", k > 0 ? ", " : "", sorted[k].second, -100 * sorted[k].first);
    table.add({fmt::format("{:.3f}", front[i].bits_per_weight), format_size(front[i].size_bytes),
               kld_text(front[i].predicted), types});
  }
  return "Best for their size (every one is optimal)\n" + table.text(2) + plot(front);
}

std::string candidates_text(const std::vector<FitCandidate>& candidates) {
  Table table({"", ">size", ">predicted", ">measured", ">same top token", ""});
  for (const FitCandidate& c : candidates)
    table.add({c.name, format_size(c.size_bytes), kld_text(c.predicted),
               fmt::format("{:.3g} [{:.3g}, {:.3g}]", c.measured, c.measured_ci95.low, c.measured_ci95.high),
               fmt::format("{:.2f} %", 100 * c.top1), c.is_kept ? "kept" : ""});
  return table.text(2);
}

}  // namespace tsubu
