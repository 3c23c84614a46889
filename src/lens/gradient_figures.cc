#include "lens/gradient_figures.h"

#include <fmt/format.h>

#include "base/size.h"
#include "page/html.h"

namespace tsubu {
namespace {

std::string alpha_figure(const GradientStudy& study, const std::string& how, Charts& charts, const Words& w) {
  XyChart f;
  f.title = w("gradients.alpha");
  f.x.name = w("gradients.alpha.x");
  f.y.name = w("gradients.alpha.y");
  f.x.logarithmic = f.y.logarithmic = true;
  ChartSeries dots;
  dots.form = ChartSeries::Form::kDots;
  dots.name = w("gradients.tensors");
  dots.color = 1;
  dots.protocol = how;
  std::vector<std::vector<std::string>> rows;
  for (const TensorPrediction& t : study.tensors) {
    dots.points.push_back({t.probe_alpha, t.fisher_alpha, 0, 0, ""});
    rows.push_back({t.name, short_number(t.probe_alpha), fmt::format("{:.0f} %", 100 * t.probe_spread), short_number(t.fisher_alpha),
                    fmt::format("{:.0f} %", 100 * t.fisher_spread)});
  }
  f.series = {dots, equality_line({dots}, w("chart.equality"))};
  return titled_figure(charts.add(f), f.title, w("gradients.alpha.how"),
                       text_table({w("tensor"), w("gradients.probe"), w("gradients.error"), w("gradients.gradients"), w("gradients.error")}, rows, how), w);
}

std::string harm_figure(const GradientStudy& study, const std::string& how, Charts& charts, const Words& w) {
  XyChart f;
  f.title = w("gradients.harm");
  f.x.name = w("plan.predicted.nats");
  f.y.name = w("plan.measured.nats");
  f.x.logarithmic = f.y.logarithmic = true;
  std::vector<std::string> headings = {w("tensor"), w("plan.type"), "r", w("gradients.measured")};
  for (const std::string_view name : kPredictors) headings.emplace_back(name);
  std::vector<std::vector<std::string>> rows;
  for (const TensorPrediction& t : study.tensors)
    for (const TypePrediction& p : t.types) {
      rows.push_back({t.name, std::string(p.type->name), short_number(p.r), p.kld ? short_number(*p.kld) : "–"});
      for (const double v : p.predicted) rows.back().push_back(short_number(v));
    }
  for (const size_t i : {size_t{1}, size_t{3}, size_t{4}}) {  // those in nats that plans are made of
    ChartSeries dots;
    dots.form = ChartSeries::Form::kDots;
    dots.name = kPredictors[i];
    dots.color = static_cast<int>(f.series.size() + 1);
    dots.protocol = how;
    for (const TensorPrediction& t : study.tensors)
      for (const TypePrediction& p : t.types)
        if (p.kld && *p.kld > 0 && p.predicted[i] > 0) dots.points.push_back({p.predicted[i], *p.kld, 0, 0, ""});
    f.series.push_back(std::move(dots));
  }
  f.series.push_back(equality_line(f.series, w("chart.equality")));
  return titled_figure(charts.add(f), f.title, w("gradients.harm.how"), text_table(headings, rows, how), w);
}

}  // namespace

std::string gradient_figures(const GradientStudy& study, Charts& charts, const Words& w) {
  std::string html = heading(w("gradients"));
  if (study.tensors.empty()) return html + "<p class=\"note\">" + escape(w("gradients.none")) + "</p>";
  const std::string how = w("gradients.protocol", study.n_windows, study.context, study.n_held_windows);
  html += "<p class=\"note\">" + escape(w("gradients.note", how, format_duration(study.probe_seconds), format_duration(study.fisher_seconds),
                                          format_duration(study.gradient_seconds), format_duration(study.harm_seconds))) + "</p>\n";
  std::vector<std::vector<std::string>> rows;
  for (const Agreement& a : study.agreements)
    rows.push_back({std::string(a.predictor), fmt::format("{}", a.n), fmt::format("{:.3f}", a.spearman), fmt::format("{:.3f}", a.within),
                    fmt::format("{:.3f}", a.pearson), short_number(a.level), fmt::format("{:.0f} %", 100 * a.scatter)});
  if (!rows.empty())
    html += text_table({w("gradients.prediction"), w("gradients.costs"), w("gradients.rank"), w("gradients.within"), w("gradients.pearson"), w("gradients.level"),
                        w("gradients.scatter")}, rows, how);
  html += "<div class=\"figures\">\n" + alpha_figure(study, how, charts, w);
  return html + harm_figure(study, how, charts, w) + "</div>\n";
}

}  // namespace tsubu
