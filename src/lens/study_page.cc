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
std::string protocol_of(const Study& study) {
  return fmt::format("{} windows of {} tokens, the second half of each scored ({} tokens), f32; KL(unchanged ‖ changed); [ ]: range over seeds",
                     study.n_windows, study.context, study.n_tokens_scored);
}

std::string with_table(const std::string& chart, const std::string& title, const std::string& caption, const std::string& table) {
  if (chart.empty()) return chart_figure("", title + ": nothing was measured.");
  return chart_figure("<h3>" + escape(title) + "</h3>" + chart, caption, "<details><summary>Numbers</summary>" + table + "</details>");
}

std::string series_table(const std::string& x_name, const std::vector<ChartSeries>& series) {
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
  return text_table(headings, rows);
}

// The figures of one page.
class Figures {
 public:
  Figures(const Study& study, Charts& charts) : study_(study), charts_(charts), protocol_(protocol_of(study)) {}
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
  return with_table(charts_.add(chart), chart.title, caption, table.empty() ? series_table(x_name, shown) : table);
}

std::string Figures::curves(What what) {
  XyChart f;
  f.title = what == What::kWeights ? "Noise in the weights" : "Noise in the activations (inputs of linears, each token)";
  f.x.name = "relative L2 norm r of the noise";
  f.y.name = "KL divergence, nats";
  f.x.logarithmic = f.y.logarithmic = true;
  f.x.ticks = r_ticks();
  for (const char* kind : {"gaussian", "uniform", "rademacher", "M+", "M-"})
    f.series.push_back(series_of(kind, curve(study_, "curves", what, kind)));
  if (what == What::kWeights) f.series.push_back(series_of("gaussian, weights and activations", curve(study_, "curves", What::kBoth, "gaussian")));
  if (what == What::kWeights && f.series.back().points.size() > 0) f.series.back().name = "gaussian in both";
  ChartSeries codecs;
  codecs.form = ChartSeries::Form::kDots;
  codecs.name = "codecs";
  for (const auto& [cell, r] : study_.cells) {
    static const std::set<std::string> kShown = {"Q2_K", "Q3_K", "Q4_K", "Q6_K", "Q8_0", "IQ2_S", "MXFP4"};
    if (what != What::kWeights || cell.part != "codecs" || !kShown.contains(cell.perturbation.name())) continue;
    codecs.points.push_back({r.r, r.kld, 0, 0, cell.perturbation.name()});
  }
  f.series.push_back(codecs);
  return lines(f, what == What::kWeights
                            ? "Every kind has the same norm. Bands: range over seeds. Dots: real codecs (plain search) at their own error; a dot under the lines harms less than noise of its size."
                            : "Every token's input of every chosen linear is changed by noise of r times its norm.",
                     "r");
}

// The lines of the kinds lie on each other there: their distance from Gaussian noise.
std::string Figures::against_gaussian() {
  XyChart f;
  f.title = "The kinds of noise against Gaussian noise";
  f.x.name = "relative L2 norm r of the noise";
  f.y.name = "divergence over that of Gaussian noise";
  f.x.logarithmic = true;
  f.x.ticks = r_ticks();
  for (const What what : {What::kWeights, What::kActivations}) {
    const auto base = curve(study_, "curves", what, "gaussian");
    for (const char* kind : {"uniform", "rademacher", "M+", "M-"}) {
      ChartSeries s;
      s.name = fmt::format("{}, {}", kind, what == What::kWeights ? "weights" : "activations");
      for (const CurvePoint& p : curve(study_, "curves", what, kind))
        for (const CurvePoint& g : base)
          if (g.x == p.x && g.y > 0) s.points.push_back({p.x, p.y / g.y, p.low / g.y, p.high / g.y, ""});
      f.series.push_back(s);
    }
  }
  return lines(f, "Above one: worse than noise of the same norm that does not know the values. Bands: range over seeds.", "r");
}

std::string Figures::other_measures(bool ppl) {
  XyChart f;
  f.title = ppl ? "Perplexity under Gaussian noise" : "Most likely token under Gaussian noise";
  f.x.name = "relative L2 norm r of the noise";
  f.y.name = ppl ? "Δ ln perplexity" : "share of tokens that keep it";
  f.x.logarithmic = true;
  f.x.ticks = r_ticks();
  double CellResult::*y = ppl ? &CellResult::ln_ppl_ratio : &CellResult::top1;
  f.series.push_back(series_of("weights", curve(study_, "curves", What::kWeights, "gaussian", "", y)));
  f.series.push_back(series_of("activations", curve(study_, "curves", What::kActivations, "gaussian", "", y)));
  f.series.push_back(series_of("both", curve(study_, "curves", What::kBoth, "gaussian", "", y)));
  return lines(f, ppl ? "The same cells as above, by their perplexity on the text." : "The same cells as above, by top-1 agreement.", "r");
}

std::string Figures::gamma() {
  XyChart f;
  f.title = "Noise in proportion to |x|^γ, at r = 1/16";
  f.x.name = "γ";
  f.y.name = "KL divergence, nats";
  f.y.logarithmic = true;
  f.series.push_back(series_of("weights", curve(study_, "gamma", What::kWeights, "gamma")));
  f.series.push_back(series_of("activations", curve(study_, "gamma", What::kActivations, "gamma")));
  static const std::set<std::string> kMarked = {"Q4_K", "Q2_K", "IQ4_XS", "MXFP4", "Q8_0"};
  for (const ErrorSlope& s : study_.slopes)
    if (kMarked.contains(s.codec)) f.marks.emplace_back(s.slope, s.codec);
  return lines(f, "Low is benign. Dashed: where the errors of real codecs stand, by the slope of their error over the size of the weight.", "γ");
}

std::string Figures::gamma_by_role() {
  std::set<std::string> roles;
  for (const auto& [cell, r] : study_.cells)
    if (cell.part == "gamma by role") roles.insert(cell.role);
  if (roles.empty()) return "";
  XyChart f;
  f.title = "The same by role, at r = 1/8";
  f.x.name = "γ";
  f.y.name = "KL divergence, nats";
  f.y.logarithmic = true;
  for (const std::string& role : roles) f.series.push_back(series_of(role, curve(study_, "gamma by role", What::kWeights, "gamma", role)));
  return lines(f, "Noise in the weights of one role in all layers.", "γ");
}

std::string Figures::slope() {
  XyChart f;
  f.title = "Error of the codecs over the size of the weight";
  f.x.name = "|x| over the tensor's root mean square";
  f.y.name = "root mean square error, relative to the whole";
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
  return lines(f, "Flat: the error does not know the value (slope 0). A uniform grid is flat within a block and rises a little from block to block.", "|x|", text_table({"codec", "slope"}, rows) + series_table("|x| over the root mean square", f.series));
}

std::string Figures::clip() {
  XyChart f;
  f.title = "Clipping the largest magnitudes";
  f.x.name = "share of the values clipped";
  f.y.name = "KL divergence, nats";
  f.x.logarithmic = f.y.logarithmic = true;
  f.series.push_back(series_of("weights", curve(study_, "clipping", What::kWeights, "clip")));
  f.series.push_back(series_of("activations", curve(study_, "clipping", What::kActivations, "clip")));
  f.x.ticks = {{0.0001, "0.01 %"}, {0.001, "0.1 %"}, {0.01, "1 %"}};
  return lines(f, "Weights: of each tensor. Activations: of each token.", "share");
}

std::string Figures::map() {
  HeatChart f;
  f.title = "Sensitivity: divergence per squared relative noise";
  f.value_name = "sensitivity";
  f.protocol = protocol_;
  std::set<int> layers;
  for (size_t i = 0; i < study_.sensitivities.size(); ++i) {
    if (std::find(f.columns.begin(), f.columns.end(), study_.sensitivity_roles[i]) == f.columns.end()) f.columns.push_back(study_.sensitivity_roles[i]);
    layers.insert(study_.sensitivity_layers[i]);
  }
  if (f.columns.empty()) return "";
  for (const int layer : layers) {
    f.rows.push_back(layer < 0 ? "outside" : fmt::format("layer {}", layer));
    f.cells.emplace_back(f.columns.size());
    for (size_t i = 0; i < study_.sensitivities.size(); ++i)
      if (study_.sensitivity_layers[i] == layer)
        f.cells.back()[static_cast<size_t>(std::find(f.columns.begin(), f.columns.end(), study_.sensitivity_roles[i]) - f.columns.begin())] =
            HeatCell{study_.sensitivities[i].alpha, study_.sensitivity_names[i], "", false};
  }
  std::vector<std::vector<std::string>> rows;
  for (size_t i = 0; i < study_.sensitivities.size(); ++i)
    rows.push_back({study_.sensitivity_names[i], short_number(study_.sensitivities[i].r), short_number(study_.sensitivities[i].kld), short_number(study_.sensitivities[i].alpha)});
  return with_table(charts_.add(f), f.title, "Gaussian noise in one tensor at a time. Shades are logarithmic.", text_table({"tensor", "r", "divergence", "sensitivity"}, rows));
}

std::string codec_table(const Study& study) {
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
  return "<h2>Codecs as perturbations</h2><p class=\"note\">Plain search without statistics. Equivalent noise: the Gaussian r of the same "
         "divergence. Efficiency: equivalent over own r; under 1, the codec harms less than noise of its size.</p>" +
         text_table({"codec", "bits per weight", "r", "divergence", "equivalent r", "efficiency", "error slope", "Δ ln PPL", "same top token"}, cells);
}

std::string other_tables(const Study& study) {
  std::string html;
  std::vector<std::vector<std::string>> rows;
  for (const auto& [cell, r] : study.cells)
    if (cell.what == What::kNumerics)
      rows.push_back({cell.weights.empty() ? "float" : cell.weights, cell.activations.empty() ? "float" : cell.activations, short_number(r.kld),
                      fmt::format("{:+.4f}", r.ln_ppl_ratio), fmt::format("{:.2f} %", 100 * r.top1)});
  if (!rows.empty()) html += "<h2>Number formats (linears of the blocks)</h2>" + text_table({"weights", "activations", "divergence", "Δ ln PPL", "same top token"}, rows);
  rows.clear();
  for (const auto& [cell, r] : study.cells)
    if (cell.part == "activations by role")
      rows.push_back({cell.role, short_number(r.kld), fmt::format("{:+.4f}", r.ln_ppl_ratio), fmt::format("{:.2f} %", 100 * r.top1)});
  if (!rows.empty()) html += "<h2>Gaussian noise of r = 1/16 in the inputs of one role</h2>" + text_table({"role", "divergence", "Δ ln PPL", "same top token"}, rows);
  rows.clear();
  for (const OutlierChannel& o : study.outliers)
    rows.push_back({o.weight, fmt::format("{}", o.channel), fmt::format("{:.1f}", o.peak), fmt::format("{:.2f} %", 100 * o.share)});
  if (!rows.empty()) html += "<h2>Outlier channels of the inputs</h2>" + text_table({"input of", "channel", "largest over root mean square", "share of the energy"}, rows);
  return html;
}

}  // namespace

std::string study_page(const Study& study) {
  std::string body = "<h1>" + escape(study.model) + " through the lens of perturbation</h1>\n";
  body += fmt::format("<p class=\"note\">{} windows of {} tokens, the second half of each scored ({} tokens), f32; perplexity of the unchanged model {:.3f}. "
                      "Divergence: mean KL(unchanged ‖ changed). {} of {} cells measured, {} in this run.</p>\n",
                      study.n_windows, study.context, study.n_tokens_scored, std::exp(study.mean_nll), study.cells.size(), study.n_cells, format_duration(study.seconds));
  body += "<h2>Findings</h2><ul class=\"findings\">\n";
  for (const Remark& said : findings(study)) body += "<li>" + escape(said.text) + "</li>\n";
  Charts charts;
  body += "</ul>\n<h2>Figures</h2><div class=\"figures\">\n" + Figures(study, charts).all();
  body += "</div>\n";
  if (study.gradients) body += gradient_figures(*study.gradients, charts);
  body += codec_table(study) + other_tables(study);
  return page_document({"en", "Perturbation study of " + study.model, body, true}, charts);
}

}  // namespace tsubu
