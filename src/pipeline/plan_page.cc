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

// How a page's numbers came about.
std::string probed(const PlanCosts& costs, const Words& w) {
  return w(costs.method == SensitivityMethod::kProbes ? "plan.probed" : "plan.gradients", costs.tensors.size(), costs.n_tokens_scored, costs.anchors.size());
}

std::string front_figure(const std::vector<Plan>& front, const std::vector<NamedPrediction>& others, const std::string& how, Charts& charts, const Words& w) {
  XyChart f;
  f.title = w("plan.front");
  f.x.name = w("bits");
  f.y.name = w("plan.predicted.nats");
  f.x.logarithmic = f.y.logarithmic = true;
  f.x.ticks = {{1.5, "1.5"}, {2, "2"}, {3, "3"}, {4, "4"}, {5, "5"}, {6, "6"}, {8, "8"}, {12, "12"}, {16, "16"}};
  ChartSeries line, dots;
  line.name = w("plan.plans");
  line.color = 1;
  line.protocol = dots.protocol = w("plan.prediction", how);
  for (const Plan& p : front)
    if (p.bits_per_weight < 9) line.points.push_back({p.bits_per_weight, p.predicted.mean, p.predicted.low, p.predicted.high, ""});
  dots.form = ChartSeries::Form::kDots;
  dots.name = w("plan.others");
  dots.color = 2;
  for (const NamedPrediction& o : others) dots.points.push_back({o.bits_per_weight, o.predicted.mean, o.predicted.low, o.predicted.high, o.name});
  f.series = {line, dots};
  return titled_figure(charts.add(f), f.title, w("plan.front.how"), "", w);
}

std::string anchor_figure(const PlanCosts& costs, const std::string& how, Charts& charts, const Words& w) {
  XyChart f;
  f.title = w("plan.anchors");
  f.x.name = w("plan.anchors.x");
  f.y.name = w("plan.measured.nats");
  f.x.logarithmic = f.y.logarithmic = true;
  ChartSeries measured;
  measured.name = w("gradients.measured");
  measured.color = 1;
  measured.protocol = how;
  std::vector<std::vector<std::string>> rows;
  for (const Anchor& a : costs.anchors) {
    measured.points.push_back({a.predicted, a.measured, 0, 0, ""});
    rows.push_back({short_number(a.predicted), short_number(a.measured)});
  }
  f.series = {measured, equality_line({measured}, w("chart.equality"))};
  return titled_figure(charts.add(f), f.title, w("plan.anchors.how"), text_table({"Σ α e", w("plan.measured")}, rows, how), w);
}

std::string map_figure(const PlanCosts& costs, const std::string& how, Charts& charts, const Words& w) {
  HeatChart f;
  f.title = w("plan.map");
  f.value_name = w("lens.alpha");
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
    f.rows.push_back(layer < 0 ? w("study.outside") : w("study.layer", layer));
    f.cells.emplace_back(f.columns.size());
    for (const TensorCosts& t : costs.tensors) {
      const TensorSpec& spec = t.sensitivity.tensor->spec();
      const auto column = std::find(f.columns.begin(), f.columns.end(), std::string(role_name(spec.role)));
      if (spec.layer == layer)
        f.cells.back()[static_cast<size_t>(column - f.columns.begin())] = HeatCell{t.sensitivity.alpha, t.sensitivity.tensor->name(), "", false};
    }
  }
  return titled_figure(charts.add(f), f.title, w(costs.method == SensitivityMethod::kProbes ? "study.map.how" : "plan.map.gradients"),
                       text_table({w("tensor"), w("lens.alpha")}, rows, how), w);
}

}  // namespace

std::string plan_page(const std::string& model, const PlanCosts& costs, const std::vector<Plan>& front,
                      const std::vector<NamedPrediction>& others, const Plan* plan, const Words& w) {
  std::string body = "<h1>" + escape(w("plan.heading", model)) + "</h1>\n";
  const std::string how = probed(costs, w), prediction = w("plan.prediction", how);
  Charts charts(chart_words(w));
  body += "<p class=\"note\">" + escape(how) + "</p>\n";
  body += "<div class=\"figures\">\n" + front_figure(front, others, how, charts, w);
  body += map_figure(costs, how, charts, w);
  body += anchor_figure(costs, how, charts, w) + "</div>\n";
  if (plan) {
    body += heading(w("plan.plan", format_size(plan->size_bytes), fmt::format("{:.4f}", plan->bits_per_weight), short_number(plan->predicted.mean),
                      short_number(plan->predicted.low), short_number(plan->predicted.high)));
    const double total = costs.sum(plan->types);
    std::vector<std::vector<std::string>> rows;
    for (size_t t = 0; t < plan->types.size(); ++t) {
      const TypeCost& c = *costs.tensors[t].find(*plan->types[t]);
      const double alpha = costs.tensors[t].sensitivity.alpha, cost = c.cost;
      rows.push_back({costs.tensors[t].sensitivity.tensor->name(), std::string(c.type->name), format_size(c.size_bytes), short_number(alpha),
                      short_number(c.error), fmt::format("{:.1f} %", total > 0 ? 100 * cost / total : 0.0)});
    }
    body += text_table({w("tensor"), w("plan.type"), w("plan.size"), w("lens.alpha"), w("plan.error"), w("plan.share")}, rows, prediction);
  }
  body += heading(w("plan.sizes"));
  std::vector<std::vector<std::string>> rows;
  for (const Plan& p : front)
    rows.push_back({fmt::format("{:.4f}", p.bits_per_weight), format_size(p.size_bytes), short_number(p.predicted.mean),
                    fmt::format("{} – {}", short_number(p.predicted.low), short_number(p.predicted.high))});
  body += text_table({w("bits"), w("plan.size"), w("plan.predicted"), "95 %"}, rows, prediction);
  rows.clear();
  for (const NamedPrediction& o : others)
    rows.push_back({o.name, fmt::format("{:.4f}", o.bits_per_weight), short_number(o.predicted.mean)});
  if (!rows.empty()) body += heading(w("plan.recipes")) + text_table({w("plan.recipe"), w("bits"), w("plan.predicted")}, rows, prediction);
  return page_document({std::string(w.code()), w("plan.title", model), body, true}, charts);
}

}  // namespace tsubu
