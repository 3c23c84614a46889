// A plan as one self-contained page: the front with stock recipes and anchors, the sensitivities, the tensors.
#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include <fmt/format.h>

#include "base/size.h"
#include "lens/figures.h"
#include "pipeline/planner.h"

namespace tsubu {
namespace {

std::string figure(const std::string& svg, const std::string& caption) {
  return "<figure>" + svg + "<figcaption>" + html_escape(caption) + "</figcaption></figure>\n";
}

std::string front_figure(const std::vector<Plan>& front, const std::vector<NamedPrediction>& others) {
  LineFigure f;
  f.title = "Best for their size";
  f.x_label = "bits per weight";
  f.y_label = "predicted divergence, nats";
  f.log_x = f.log_y = true;
  f.x_ticks = {{1.5, "1.5"}, {2, "2"}, {3, "3"}, {4, "4"}, {5, "5"}, {6, "6"}, {8, "8"}, {12, "12"}, {16, "16"}};
  FigureSeries line, dots;
  line.name = "plans";
  for (const Plan& p : front)
    if (p.bits_per_weight < 9) line.points.push_back({p.bits_per_weight, p.predicted.mean, p.predicted.low, p.predicted.high});
  dots.is_scatter = true;
  for (const NamedPrediction& o : others) {
    dots.points.push_back({o.bits_per_weight, o.predicted.mean, o.predicted.low, o.predicted.high});
    dots.names.push_back(o.name);
  }
  f.series = {line, dots};
  return figure(line_svg(f), "Every point of the line is the optimum for its size; the band is the interval of 95 %. Dots: other recipes, rounded the same way.");
}

std::string anchor_figure(const PlanCosts& costs) {
  LineFigure f;
  f.title = "Recipes that were rounded and measured";
  f.x_label = "Σ α e: sum of the tensors' divergences";
  f.y_label = "measured divergence, nats";
  f.log_x = f.log_y = true;
  FigureSeries line;
  line.name = "measured";
  for (const Anchor& a : costs.anchors) line.points.push_back({a.predicted, a.measured, a.measured, a.measured});
  FigureSeries equal;
  equal.name = "equal";
  for (const Anchor& a : costs.anchors) equal.points.push_back({a.predicted, a.predicted, a.predicted, a.predicted});
  f.series = {line, equal};
  return figure(line_svg(f), "By search. The distance from the line of equality is what predictions are corrected by.");
}

std::string map_figure(const PlanCosts& costs) {
  HeatFigure f;
  f.title = "Sensitivity: divergence per squared relative error";
  std::set<int> layers;
  for (const TensorCosts& t : costs.tensors) {
    const TensorSpec& spec = t.sensitivity.tensor->spec();
    layers.insert(spec.layer);
    const std::string role(role_name(spec.role));
    if (std::find(f.columns.begin(), f.columns.end(), role) == f.columns.end()) f.columns.push_back(role);
  }
  for (const int layer : layers) {
    f.rows.push_back(layer < 0 ? "outside" : fmt::format("layer {}", layer));
    std::vector<double> row(f.columns.size(), std::numeric_limits<double>::quiet_NaN());
    for (const TensorCosts& t : costs.tensors) {
      const TensorSpec& spec = t.sensitivity.tensor->spec();
      const auto column = std::find(f.columns.begin(), f.columns.end(), std::string(role_name(spec.role)));
      if (spec.layer == layer) row[static_cast<size_t>(column - f.columns.begin())] = t.sensitivity.alpha;
    }
    f.values.push_back(row);
  }
  return figure(heat_svg(f), "Noise in one tensor at a time. Shades are logarithmic.");
}

}  // namespace

std::string plan_page(const std::string& model, const PlanCosts& costs, const std::vector<Plan>& front,
                      const std::vector<NamedPrediction>& others, const Plan* plan) {
  std::string body = "<h1>Types for " + html_escape(model) + "</h1>\n";
  body += fmt::format("<p class=\"note\">{} tensors probed, {} scored tokens, {} recipes measured.</p>\n", costs.tensors.size(),
                      costs.n_tokens_scored, costs.anchors.size());
  body += "<div class=\"figures\">\n" + front_figure(front, others) + map_figure(costs) + anchor_figure(costs) + "</div>\n";
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
    body += html_table({"tensor", "type", "size", "sensitivity", "error", "of the divergence"}, rows);
  }
  body += "<h2>All sizes</h2>\n";
  std::vector<std::vector<std::string>> rows;
  for (const Plan& p : front)
    rows.push_back({fmt::format("{:.4f}", p.bits_per_weight), format_size(p.size_bytes), short_number(p.predicted.mean),
                    fmt::format("{} – {}", short_number(p.predicted.low), short_number(p.predicted.high))});
  body += html_table({"bits per weight", "size", "predicted divergence", "95 %"}, rows);
  rows.clear();
  for (const NamedPrediction& o : others)
    rows.push_back({o.name, fmt::format("{:.4f}", o.bits_per_weight), short_number(o.predicted.mean)});
  if (!rows.empty()) body += "<h2>Other recipes</h2>\n" + html_table({"recipe", "bits per weight", "predicted divergence"}, rows);
  return html_page("Plan for " + model, body);
}

}  // namespace tsubu
