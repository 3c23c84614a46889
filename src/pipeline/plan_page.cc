// A plan as one self-contained page: the front with stock recipes and anchors, the sensitivities, the tensors.
#include <algorithm>
#include <cmath>
#include <set>

#include <fmt/format.h>

#include "base/size.h"
#include "page/document.h"
#include "page/html.h"
#include "pipeline/planner.h"

namespace tsubu {
namespace {

std::string figure(const std::string& chart, const std::string& title, const std::string& caption, const std::string& table = "") {
  if (chart.empty()) return chart_figure("", title + ": nothing was measured.");
  return chart_figure("<h3>" + escape(title) + "</h3>" + chart, caption, table.empty() ? "" : "<details><summary>Numbers</summary>" + table + "</details>");
}

// How a page's numbers came about.
std::string probed(const PlanCosts& costs) {
  return fmt::format("{} tensors {}, {} scored tokens, {} recipes measured", costs.tensors.size(),
                     costs.method == SensitivityMethod::kProbes ? "probed" : "by gradients", costs.n_tokens_scored, costs.anchors.size());
}

std::string front_figure(const std::vector<Plan>& front, const std::vector<NamedPrediction>& others, const std::string& how, Charts& charts) {
  XyChart f;
  f.title = "Best for their size";
  f.x.name = "bits per weight";
  f.y.name = "predicted divergence, nats";
  f.x.logarithmic = f.y.logarithmic = true;
  f.x.ticks = {{1.5, "1.5"}, {2, "2"}, {3, "3"}, {4, "4"}, {5, "5"}, {6, "6"}, {8, "8"}, {12, "12"}, {16, "16"}};
  ChartSeries line, dots;
  line.name = "plans";
  line.color = 1;
  line.protocol = dots.protocol = "prediction from " + how + "; [ ]: 95 %";
  for (const Plan& p : front)
    if (p.bits_per_weight < 9) line.points.push_back({p.bits_per_weight, p.predicted.mean, p.predicted.low, p.predicted.high, ""});
  dots.form = ChartSeries::Form::kDots;
  dots.name = "other recipes";
  dots.color = 2;
  for (const NamedPrediction& o : others) dots.points.push_back({o.bits_per_weight, o.predicted.mean, o.predicted.low, o.predicted.high, o.name});
  f.series = {line, dots};
  return figure(charts.add(f), f.title,
                "Every point of the line is the optimum for its size; the band is the interval of 95 %. Dots: other recipes, rounded the same way.");
}

std::string anchor_figure(const PlanCosts& costs, const std::string& how, Charts& charts) {
  XyChart f;
  f.title = "Recipes that were rounded and measured";
  f.x.name = "Σ α e: sum of the tensors' divergences";
  f.y.name = "measured divergence, nats";
  f.x.logarithmic = f.y.logarithmic = true;
  ChartSeries measured;
  measured.name = "measured";
  measured.color = 1;
  measured.protocol = how;
  std::vector<std::vector<std::string>> rows;
  for (const Anchor& a : costs.anchors) {
    measured.points.push_back({a.predicted, a.measured, 0, 0, ""});
    rows.push_back({short_number(a.predicted), short_number(a.measured)});
  }
  f.series = {measured, equality_line({measured})};
  return figure(charts.add(f), f.title, "By search. The distance from the line of equality is what predictions are corrected by.",
                text_table({"Σ α e", "measured divergence"}, rows));
}

std::string map_figure(const PlanCosts& costs, const std::string& how, Charts& charts) {
  HeatChart f;
  f.title = "Sensitivity: divergence per squared relative error";
  f.value_name = "sensitivity";
  f.protocol = how;
  std::set<int> layers;
  std::vector<std::vector<std::string>> rows;
  for (const TensorCosts& t : costs.tensors) {
    const TensorSpec& spec = t.sensitivity.tensor->spec();
    layers.insert(spec.layer);
    const std::string role(role_name(spec.role));
    if (std::find(f.columns.begin(), f.columns.end(), role) == f.columns.end()) f.columns.push_back(role);
    rows.push_back({t.sensitivity.tensor->name(), short_number(t.sensitivity.alpha)});
  }
  for (const int layer : layers) {
    f.rows.push_back(layer < 0 ? "outside" : fmt::format("layer {}", layer));
    f.cells.emplace_back(f.columns.size());
    for (const TensorCosts& t : costs.tensors) {
      const TensorSpec& spec = t.sensitivity.tensor->spec();
      const auto column = std::find(f.columns.begin(), f.columns.end(), std::string(role_name(spec.role)));
      if (spec.layer == layer)
        f.cells.back()[static_cast<size_t>(column - f.columns.begin())] = HeatCell{t.sensitivity.alpha, t.sensitivity.tensor->name(), "", false};
    }
  }
  return figure(charts.add(f), f.title,
                costs.method == SensitivityMethod::kProbes ? "Noise in one tensor at a time. Shades are logarithmic."
                                                           : "By the Fisher diagonal, from backward passes. Shades are logarithmic.",
                text_table({"tensor", "sensitivity"}, rows));
}

}  // namespace

std::string plan_page(const std::string& model, const PlanCosts& costs, const std::vector<Plan>& front,
                      const std::vector<NamedPrediction>& others, const Plan* plan) {
  std::string body = "<h1>Types for " + escape(model) + "</h1>\n";
  const std::string how = probed(costs);
  Charts charts;
  body += "<p class=\"note\">" + escape(how) + ".</p>\n";
  body += "<div class=\"figures\">\n" + front_figure(front, others, how, charts);
  body += map_figure(costs, how, charts);
  body += anchor_figure(costs, how, charts) + "</div>\n";
  if (plan) {
    body += fmt::format("<h2>The plan: {}, {:.4f} bits per weight, predicted divergence {} [{}, {}]</h2>\n", format_size(plan->size_bytes),
                        plan->bits_per_weight, short_number(plan->predicted.mean), short_number(plan->predicted.low), short_number(plan->predicted.high));
    const double total = costs.sum(plan->types);
    std::vector<std::vector<std::string>> rows;
    for (size_t t = 0; t < plan->types.size(); ++t) {
      const TypeCost& c = *costs.tensors[t].find(*plan->types[t]);
      const double alpha = costs.tensors[t].sensitivity.alpha, cost = c.cost;
      rows.push_back({costs.tensors[t].sensitivity.tensor->name(), std::string(c.type->name), format_size(c.size_bytes), short_number(alpha),
                      short_number(c.error), fmt::format("{:.1f} %", total > 0 ? 100 * cost / total : 0.0)});
    }
    body += text_table({"tensor", "type", "size", "sensitivity", "error", "of the divergence"}, rows);
  }
  body += "<h2>All sizes</h2>\n";
  std::vector<std::vector<std::string>> rows;
  for (const Plan& p : front)
    rows.push_back({fmt::format("{:.4f}", p.bits_per_weight), format_size(p.size_bytes), short_number(p.predicted.mean),
                    fmt::format("{} – {}", short_number(p.predicted.low), short_number(p.predicted.high))});
  body += text_table({"bits per weight", "size", "predicted divergence", "95 %"}, rows);
  rows.clear();
  for (const NamedPrediction& o : others)
    rows.push_back({o.name, fmt::format("{:.4f}", o.bits_per_weight), short_number(o.predicted.mean)});
  if (!rows.empty()) body += "<h2>Other recipes</h2>\n" + text_table({"recipe", "bits per weight", "predicted divergence"}, rows);
  return page_document({"en", "Plan for " + model, body, true}, charts);
}

}  // namespace tsubu
