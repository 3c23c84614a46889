#include "lens/gradient_figures.h"

#include <fmt/format.h>

#include "base/size.h"
#include "page/html.h"

namespace tsubu {
namespace {

std::string framed(const std::string& chart, const std::string& title, const std::string& caption, const std::string& table) {
  const std::string numbers = "<details><summary>Numbers</summary>" + table + "</details>";
  return chart_figure(chart.empty() ? "" : "<h3>" + escape(title) + "</h3>" + chart, caption, numbers);
}

std::string alpha_figure(const GradientStudy& study, const std::string& how, Charts& charts) {
  XyChart f;
  f.title = "Sensitivity by gradients over that by noise probes";
  f.x.name = "noise probe: divergence over r²";
  f.y.name = "Fisher diagonal: the same by gradients";
  f.x.logarithmic = f.y.logarithmic = true;
  ChartSeries dots;
  dots.form = ChartSeries::Form::kDots;
  dots.name = "tensors";
  dots.color = 1;
  dots.protocol = how;
  std::vector<std::vector<std::string>> rows;
  for (const TensorPrediction& t : study.tensors) {
    dots.points.push_back({t.probe_alpha, t.fisher_alpha, 0, 0, ""});
    rows.push_back({t.name, short_number(t.probe_alpha), fmt::format("{:.0f} %", 100 * t.probe_spread), short_number(t.fisher_alpha),
                    fmt::format("{:.0f} %", 100 * t.fisher_spread)});
  }
  f.series = {dots, equality_line({dots})};
  return framed(charts.add(f), f.title, "Noise in the size of each row, one tensor at a time, against one backward pass for all of them.",
                text_table({"tensor", "probe", "its error", "gradients", "their error"}, rows));
}

std::string harm_figure(const GradientStudy& study, const std::string& how, Charts& charts) {
  XyChart f;
  f.title = "What single tensors cost: predicted and measured";
  f.x.name = "predicted divergence, nats";
  f.y.name = "measured divergence, nats";
  f.x.logarithmic = f.y.logarithmic = true;
  std::vector<std::string> headings = {"tensor", "type", "r", "measured"};
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
  f.series.push_back(equality_line(f.series));
  return framed(charts.add(f), f.title, "One tensor in one type, everything else float; a dot for each. On the line, the prediction is right.",
                text_table(headings, rows));
}

}  // namespace

std::string gradient_figures(const GradientStudy& study, Charts& charts) {
  std::string html = "<h2>Sensitivities by gradients</h2>";
  if (study.tensors.empty()) return html + "<p class=\"note\">Nothing was measured.</p>";
  const std::string how = fmt::format("learned from {} windows of {} tokens, costs measured on {} windows; second half of each scored, f32",
                                      study.n_windows, study.context, study.n_held_windows);
  html += fmt::format("<p class=\"note\">{}. Noise probes took {}, the backward passes {} (and {} for the text's own gradient), measuring single tensors {}.</p>\n",
                      escape(how), format_duration(study.probe_seconds), format_duration(study.fisher_seconds),
                      format_duration(study.gradient_seconds), format_duration(study.harm_seconds));
  std::vector<std::vector<std::string>> rows;
  for (const Agreement& a : study.agreements)
    rows.push_back({std::string(a.predictor), fmt::format("{}", a.n), fmt::format("{:.3f}", a.spearman), fmt::format("{:.3f}", a.within),
                    fmt::format("{:.3f}", a.pearson), short_number(a.level), fmt::format("{:.0f} %", 100 * a.scatter)});
  if (!rows.empty())
    html += text_table({"prediction", "costs", "rank correlation", "in one type", "correlation of logarithms", "measured over predicted", "scatter"}, rows);
  html += "<div class=\"figures\">\n" + alpha_figure(study, how, charts);
  return html + harm_figure(study, how, charts) + "</div>\n";
}

}  // namespace tsubu
