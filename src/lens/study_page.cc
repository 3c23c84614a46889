// The study as one self-contained page.
#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include <fmt/format.h>

#include "base/size.h"
#include "codec/type_info.h"
#include "lens/gradient_figures.h"
#include "lens/study.h"
#include "page/document.h"
#include "page/html.h"

namespace tsubu {
namespace {

using What = Cell::What;

std::vector<std::pair<double, std::string>> r_ticks() {
  std::vector<std::pair<double, std::string>> ticks;
  for (int e = 2; e <= 9; ++e) ticks.emplace_back(std::exp2(-e), fmt::format("1/{}", 1 << e));
  return ticks;
}

ChartSeries series_of(const std::string& name, const std::vector<CurvePoint>& points) {
  ChartSeries s;
  s.name = name;
  for (const CurvePoint& p : points) s.points.push_back({p.x, p.y, p.low, p.high, ""});
  return s;
}

// What every number of the page is.
std::string protocol_of(const Study& study, const Words& w) {
  return w("study.protocol", study.n_windows, study.context, study.n_tokens_scored);
}

std::string series_table(const std::string& x_name, const std::vector<ChartSeries>& series, const std::string& how) {
  std::set<double> xs;
  for (const ChartSeries& s : series)
    for (const ChartPoint& p : s.points) xs.insert(p.x);
  std::vector<std::string> headings = {x_name};
  for (const ChartSeries& s : series) headings.push_back(s.name);
  std::vector<std::vector<std::string>> rows;
  for (const double x : xs) {
    std::vector<std::string> row = {short_number(x)};
    for (const ChartSeries& s : series) {
      std::string cell = "–";
      for (const ChartPoint& p : s.points)
        if (p.x == x)
          cell = p.high > p.low ? fmt::format("{} [{}, {}]", short_number(p.y), short_number(p.low), short_number(p.high)) : short_number(p.y);
      row.push_back(cell);
    }
    rows.push_back(row);
  }
  return text_table(headings, rows, how);
}

// The figures of one page.
class Figures {
 public:
  Figures(const Study& study, Charts& charts, const Words& words) : study_(study), charts_(charts), w(words), protocol_(protocol_of(study, words)) {}
  std::string all() {
    std::string html = curves(What::kWeights);  // one after the other: charts are numbered as they come
    html += curves(What::kActivations);
    for (const auto figure : {&Figures::against_gaussian, &Figures::map, &Figures::gamma, &Figures::gamma_by_role, &Figures::slope, &Figures::clip})
      html += (this->*figure)();
    html += other_measures(false);
    return html + other_measures(true);
  }

 private:
  std::string lines(XyChart chart, const std::string& caption, const std::string& x_name, const std::string& table = "");
  std::string curves(What what);
  std::string against_gaussian();
  std::string other_measures(bool ppl);
  std::string gamma();
  std::string gamma_by_role();
  std::string slope();
  std::string clip();
  std::string map();

  const Study& study_;
  Charts& charts_;
  const Words& w;
  std::string protocol_;
};

std::string Figures::lines(XyChart chart, const std::string& caption, const std::string& x_name, const std::string& table) {
  std::erase_if(chart.series, [](const ChartSeries& s) { return s.points.empty(); });
  std::vector<ChartSeries> shown;
  for (size_t i = 0; i < chart.series.size(); ++i) {
    ChartSeries& s = chart.series[i];
    s.color = static_cast<int>(i + 1);
    s.protocol = protocol_;
    if (s.form == ChartSeries::Form::kLine) shown.push_back(s);
  }
  return titled_figure(charts_.add(chart), chart.title, caption, table.empty() ? series_table(x_name, shown, protocol_) : table, w);
}

std::string Figures::curves(What what) {
  XyChart f;
  f.title = w(what == What::kWeights ? "lens.weights" : "study.activations");
  f.x.name = w("study.r");
  f.y.name = w("study.kld");
  f.x.logarithmic = f.y.logarithmic = true;
  f.x.ticks = r_ticks();
  for (const char* kind : {"gaussian", "uniform", "rademacher", "M+", "M-"})
    f.series.push_back(series_of(kind, curve(study_, "curves", what, kind)));
  if (what == What::kWeights) f.series.push_back(series_of(w("study.gaussian.both"), curve(study_, "curves", What::kBoth, "gaussian")));
  ChartSeries codecs;
  codecs.form = ChartSeries::Form::kDots;
  codecs.name = w("study.codecs.dots");
  for (const auto& [cell, r] : study_.cells) {
    static const std::set<std::string> kShown = {"Q2_K", "Q3_K", "Q4_K", "Q6_K", "Q8_0", "IQ2_S", "MXFP4"};
    if (what != What::kWeights || cell.part != "codecs" || !kShown.contains(cell.perturbation.name())) continue;
    codecs.points.push_back({r.r, r.kld, 0, 0, cell.perturbation.name()});
  }
  f.series.push_back(codecs);
  return lines(f, w(what == What::kWeights ? "study.weights.how" : "study.activations.how"), "r");
}

// The lines of the kinds lie on each other there: their distance from Gaussian noise.
std::string Figures::against_gaussian() {
  XyChart f;
  f.title = w("study.kinds");
  f.x.name = w("study.r");
  f.y.name = w("study.kinds.y");
  f.x.logarithmic = true;
  f.x.ticks = r_ticks();
  for (const What what : {What::kWeights, What::kActivations}) {
    const auto base = curve(study_, "curves", what, "gaussian");
    for (const char* kind : {"uniform", "rademacher", "M+", "M-"}) {
      ChartSeries s;
      s.name = fmt::format("{}, {}", kind, w(what == What::kWeights ? "study.weights.name" : "study.activations.name"));
      for (const CurvePoint& p : curve(study_, "curves", what, kind))
        for (const CurvePoint& g : base)
          if (g.x == p.x && g.y > 0) s.points.push_back({p.x, p.y / g.y, p.low / g.y, p.high / g.y, ""});
      f.series.push_back(s);
    }
  }
  return lines(f, w("study.kinds.how"), "r");
}

std::string Figures::other_measures(bool ppl) {
  XyChart f;
  f.title = w(ppl ? "study.ppl" : "study.top1");
  f.x.name = w("study.r");
  f.y.name = w(ppl ? "study.ppl.y" : "study.top1.y");
  f.x.logarithmic = true;
  f.x.ticks = r_ticks();
  double CellResult::*y = ppl ? &CellResult::ln_ppl_ratio : &CellResult::top1;
  f.series.push_back(series_of(w("study.weights.name"), curve(study_, "curves", What::kWeights, "gaussian", "", y)));
  f.series.push_back(series_of(w("study.activations.name"), curve(study_, "curves", What::kActivations, "gaussian", "", y)));
  f.series.push_back(series_of(w("study.both.name"), curve(study_, "curves", What::kBoth, "gaussian", "", y)));
  return lines(f, w(ppl ? "study.ppl.how" : "study.top1.how"), "r");
}

std::string Figures::gamma() {
  XyChart f;
  f.title = w("study.gamma");
  f.x.name = "γ";
  f.y.name = w("study.kld");
  f.y.logarithmic = true;
  f.series.push_back(series_of(w("study.weights.name"), curve(study_, "gamma", What::kWeights, "gamma")));
  f.series.push_back(series_of(w("study.activations.name"), curve(study_, "gamma", What::kActivations, "gamma")));
  static const std::set<std::string> kMarked = {"Q4_K", "Q2_K", "IQ4_XS", "MXFP4", "Q8_0"};
  for (const ErrorSlope& s : study_.slopes)
    if (kMarked.contains(s.codec)) f.marks.emplace_back(s.slope, s.codec);
  return lines(f, w("study.gamma.how"), "γ");
}

std::string Figures::gamma_by_role() {
  std::set<std::string> roles;
  for (const auto& [cell, r] : study_.cells)
    if (cell.part == "gamma by role") roles.insert(cell.role);
  if (roles.empty()) return "";
  XyChart f;
  f.title = w("study.gamma.roles");
  f.x.name = "γ";
  f.y.name = w("study.kld");
  f.y.logarithmic = true;
  for (const std::string& role : roles) f.series.push_back(series_of(role, curve(study_, "gamma by role", What::kWeights, "gamma", role)));
  return lines(f, w("study.gamma.roles.how"), "γ");
}

std::string Figures::slope() {
  XyChart f;
  f.title = w("study.slope");
  f.x.name = w("study.slope.x");
  f.y.name = w("study.slope.y");
  f.x.logarithmic = f.y.logarithmic = true;
  static const std::set<std::string> kShown = {"Q2_K", "Q4_K", "IQ4_XS", "MXFP4", "Q8_0", "IQ2_S", "Q4_0"};
  std::vector<std::vector<std::string>> rows;
  for (const ErrorSlope& s : study_.slopes) {
    rows.push_back({s.codec, fmt::format("{:.3f}", s.slope)});
    if (!kShown.contains(s.codec)) continue;
    ChartSeries line;
    line.name = s.codec;
    for (size_t i = 0; i < s.magnitudes.size(); ++i) line.points.push_back({s.magnitudes[i], s.errors[i], 0, 0, ""});
    f.series.push_back(line);
  }
  const std::string how = w("study.slope.protocol");
  return lines(f, w("study.slope.how"), "|x|", text_table({w("study.codec"), w("study.slope.name")}, rows, how) + series_table(w("study.slope.x"), f.series, how));
}

std::string Figures::clip() {
  XyChart f;
  f.title = w("study.clip");
  f.x.name = w("study.clip.x");
  f.y.name = w("study.kld");
  f.x.logarithmic = f.y.logarithmic = true;
  f.series.push_back(series_of(w("study.weights.name"), curve(study_, "clipping", What::kWeights, "clip")));
  f.series.push_back(series_of(w("study.activations.name"), curve(study_, "clipping", What::kActivations, "clip")));
  f.x.ticks = {{0.0001, "0.01 %"}, {0.001, "0.1 %"}, {0.01, "1 %"}};
  return lines(f, w("study.clip.how"), w("study.clip.x"));
}

std::string Figures::map() {
  HeatChart f;
  f.title = w("study.map");
  f.value_name = w("lens.alpha");
  f.protocol = protocol_;
  std::set<int> layers;
  for (size_t i = 0; i < study_.sensitivities.size(); ++i) {
    if (std::find(f.columns.begin(), f.columns.end(), study_.sensitivity_roles[i]) == f.columns.end()) f.columns.push_back(study_.sensitivity_roles[i]);
    layers.insert(study_.sensitivity_layers[i]);
  }
  if (f.columns.empty()) return "";
  for (const int layer : layers) {
    f.rows.push_back(layer < 0 ? w("study.outside") : w("study.layer", layer));
    f.cells.emplace_back(f.columns.size());
    for (size_t i = 0; i < study_.sensitivities.size(); ++i)
      if (study_.sensitivity_layers[i] == layer)
        f.cells.back()[static_cast<size_t>(std::find(f.columns.begin(), f.columns.end(), study_.sensitivity_roles[i]) - f.columns.begin())] =
            HeatCell{study_.sensitivities[i].alpha, study_.sensitivity_names[i], "", false};
  }
  std::vector<std::vector<std::string>> rows;
  for (size_t i = 0; i < study_.sensitivities.size(); ++i)
    rows.push_back({study_.sensitivity_names[i], short_number(study_.sensitivities[i].r), short_number(study_.sensitivities[i].kld), short_number(study_.sensitivities[i].alpha)});
  return titled_figure(charts_.add(f), f.title, w("study.map.how"), text_table({w("tensor"), "r", w("kld.short"), w("lens.alpha")}, rows, protocol_), w);
}

std::string codec_table(const Study& study, const Words& w) {
  std::vector<std::pair<double, std::vector<std::string>>> rows;
  for (const auto& [cell, r] : study.cells) {
    if (cell.part != "codecs") continue;
    const auto noise = equivalent_noise(study, r.kld);
    std::string slope = "–";
    for (const ErrorSlope& s : study.slopes)
      if (s.codec == cell.perturbation.name()) slope = fmt::format("{:.2f}", s.slope);
    const double bits = cell.perturbation.codec->bits_per_weight();
    rows.push_back({bits, {cell.perturbation.name(), fmt::format("{:.3f}", bits), short_number(r.r), short_number(r.kld),
                           noise ? short_number(*noise) : "–", noise ? fmt::format("{:.2f}", *noise / r.r) : "–", slope,
                           fmt::format("{:+.4f}", r.ln_ppl_ratio), fmt::format("{:.2f} %", 100 * r.top1)}});
  }
  if (rows.empty()) return "";
  std::stable_sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<std::vector<std::string>> cells;
  for (const auto& [bits, row] : rows) cells.push_back(row);
  return heading(w("study.codecs")) + "<p class=\"note\">" + escape(w("study.codecs.how")) + "</p>" +
         text_table({w("study.codec"), w("bits"), "r", w("kld.short"), w("study.equal"), w("lens.efficiency"), w("study.slope.error"), "Δ ln PPL", w("top1")}, cells,
                    protocol_of(study, w));
}

std::string other_tables(const Study& study, const Words& w) {
  std::string html;
  const std::string how = protocol_of(study, w);
  std::vector<std::vector<std::string>> rows;
  for (const auto& [cell, r] : study.cells)
    if (cell.what == What::kNumerics)
      rows.push_back({cell.weights.empty() ? w("study.float") : cell.weights, cell.activations.empty() ? w("study.float") : cell.activations, short_number(r.kld),
                      fmt::format("{:+.4f}", r.ln_ppl_ratio), fmt::format("{:.2f} %", 100 * r.top1)});
  if (!rows.empty()) html += heading(w("study.numerics")) + text_table({w("study.weights.name"), w("study.activations.name"), w("kld.short"), "Δ ln PPL", w("top1")}, rows, how);
  rows.clear();
  for (const auto& [cell, r] : study.cells)
    if (cell.part == "activations by role")
      rows.push_back({cell.role, short_number(r.kld), fmt::format("{:+.4f}", r.ln_ppl_ratio), fmt::format("{:.2f} %", 100 * r.top1)});
  if (!rows.empty()) html += heading(w("study.roles")) + text_table({w("study.role"), w("kld.short"), "Δ ln PPL", w("top1")}, rows, how);
  rows.clear();
  for (const OutlierChannel& o : study.outliers)
    rows.push_back({o.weight, fmt::format("{}", o.channel), fmt::format("{:.1f}", o.peak), fmt::format("{:.2f} %", 100 * o.share)});
  if (!rows.empty()) html += heading(w("study.outliers")) + text_table({w("study.outliers.of"), w("study.channel"), w("study.outliers.peak"), w("study.outliers.share")}, rows, how);
  return html;
}

}  // namespace

std::string study_page(const Study& study, const Words& w) {
  std::string body = "<h1>" + escape(w("study.heading", study.model)) + "</h1>\n";
  body += "<p class=\"note\">" + escape(w("study.note", study.n_windows, study.context, study.n_tokens_scored, fmt::format("{:.3f}", std::exp(study.mean_nll)),
                                          study.cells.size(), study.n_cells, format_duration(study.seconds))) + "</p>\n";
  body += heading(w("study.findings")) + "<ul class=\"findings\">\n";
  for (const Remark& said : findings(study)) body += "<li>" + escape(w.said(to_json(said))) + "</li>\n";
  Charts charts(chart_words(w));
  body += "</ul>\n" + heading(w("study.figures")) + "<div class=\"figures\">\n" + Figures(study, charts, w).all();
  body += "</div>\n";
  if (study.gradients) body += gradient_figures(*study.gradients, charts, w);
  body += codec_table(study, w) + other_tables(study, w);
  return page_document({std::string(w.code()), w("study.title", study.model), body, true}, charts);
}

}  // namespace tsubu
