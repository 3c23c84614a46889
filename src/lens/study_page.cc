// The study as one self-contained page.
#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include <fmt/format.h>

#include "base/size.h"
#include "codec/type_info.h"
#include "lens/figures.h"
#include "lens/study.h"

namespace tsubu {
namespace {

using What = Cell::What;

std::vector<std::pair<double, std::string>> r_ticks() {
  std::vector<std::pair<double, std::string>> ticks;
  for (int e = 2; e <= 9; ++e) ticks.emplace_back(std::exp2(-e), fmt::format("1/{}", 1 << e));
  return ticks;
}

FigureSeries series_of(const std::string& name, const std::vector<CurvePoint>& points) {
  FigureSeries s;
  s.name = name;
  for (const CurvePoint& p : points) s.points.push_back({p.x, p.y, p.low, p.high});
  return s;
}

std::string with_table(const std::string& svg, const std::string& caption, const std::string& table) {
  return "<figure>" + svg + "<figcaption>" + html_escape(caption) + "</figcaption><details><summary>Numbers</summary>" + table +
         "</details></figure>\n";
}

std::string series_table(const std::string& x_name, const std::vector<FigureSeries>& series) {
  std::set<double> xs;
  for (const FigureSeries& s : series)
    for (const FigurePoint& p : s.points) xs.insert(p.x);
  std::vector<std::string> headings = {x_name};
  for (const FigureSeries& s : series) headings.push_back(s.name);
  std::vector<std::vector<std::string>> rows;
  for (const double x : xs) {
    std::vector<std::string> row = {short_number(x)};
    for (const FigureSeries& s : series) {
      std::string cell = "–";
      for (const FigurePoint& p : s.points)
        if (p.x == x)
          cell = p.high > p.low ? fmt::format("{} [{}, {}]", short_number(p.y), short_number(p.low), short_number(p.high)) : short_number(p.y);
      row.push_back(cell);
    }
    rows.push_back(row);
  }
  return html_table(headings, rows);
}

std::string line_figure(LineFigure figure, const std::string& caption, const std::string& x_name) {
  std::erase_if(figure.series, [](const FigureSeries& s) { return s.points.empty(); });
  std::vector<FigureSeries> lines;
  for (const FigureSeries& s : figure.series)
    if (!s.is_scatter) lines.push_back(s);
  return with_table(line_svg(figure), caption, series_table(x_name, lines));
}

std::string curves(const Study& study, What what) {
  LineFigure f;
  f.title = what == What::kWeights ? "Noise in the weights" : "Noise in the activations (inputs of linears, each token)";
  f.x_label = "relative L2 norm r of the noise";
  f.y_label = "KL divergence, nats";
  f.log_x = f.log_y = true;
  f.x_ticks = r_ticks();
  for (const char* kind : {"gaussian", "uniform", "rademacher", "M+", "M-"})
    f.series.push_back(series_of(kind, curve(study, "curves", what, kind)));
  if (what == What::kWeights) f.series.push_back(series_of("gaussian, weights and activations", curve(study, "curves", What::kBoth, "gaussian")));
  if (what == What::kWeights && f.series.back().points.size() > 0) f.series.back().name = "gaussian in both";
  FigureSeries codecs;
  codecs.is_scatter = true;
  codecs.name = "codecs";
  for (const auto& [cell, r] : study.cells) {
    static const std::set<std::string> kShown = {"Q2_K", "Q3_K", "Q4_K", "Q6_K", "Q8_0", "IQ2_S", "MXFP4"};
    if (what != What::kWeights || cell.part != "codecs" || !kShown.contains(cell.perturbation.name())) continue;
    codecs.points.push_back({r.r, r.kld, r.kld, r.kld});
    codecs.names.push_back(cell.perturbation.name());
  }
  f.series.push_back(codecs);
  return line_figure(f, what == What::kWeights
                            ? "Every kind has the same norm. Bands: range over seeds. Dots: real codecs (plain search) at their own error; a dot under the lines harms less than noise of its size."
                            : "Every token's input of every chosen linear is changed by noise of r times its norm.",
                     "r");
}

// The lines of the kinds lie on each other there: their distance from Gaussian noise.
std::string against_gaussian(const Study& study) {
  LineFigure f;
  f.title = "The kinds of noise against Gaussian noise";
  f.x_label = "relative L2 norm r of the noise";
  f.y_label = "divergence over that of Gaussian noise";
  f.log_x = true;
  f.x_ticks = r_ticks();
  for (const What what : {What::kWeights, What::kActivations}) {
    const auto base = curve(study, "curves", what, "gaussian");
    for (const char* kind : {"uniform", "rademacher", "M+", "M-"}) {
      FigureSeries s;
      s.name = fmt::format("{}, {}", kind, what == What::kWeights ? "weights" : "activations");
      for (const CurvePoint& p : curve(study, "curves", what, kind))
        for (const CurvePoint& g : base)
          if (g.x == p.x && g.y > 0) s.points.push_back({p.x, p.y / g.y, p.low / g.y, p.high / g.y});
      f.series.push_back(s);
    }
  }
  return line_figure(f, "Above one: worse than noise of the same norm that does not know the values. Bands: range over seeds.", "r");
}

std::string other_measures(const Study& study, bool ppl) {
  LineFigure f;
  f.title = ppl ? "Perplexity under Gaussian noise" : "Most likely token under Gaussian noise";
  f.x_label = "relative L2 norm r of the noise";
  f.y_label = ppl ? "Δ ln perplexity" : "share of tokens that keep it";
  f.log_x = true;
  f.x_ticks = r_ticks();
  double CellResult::*y = ppl ? &CellResult::ln_ppl_ratio : &CellResult::top1;
  f.series.push_back(series_of("weights", curve(study, "curves", What::kWeights, "gaussian", "", y)));
  f.series.push_back(series_of("activations", curve(study, "curves", What::kActivations, "gaussian", "", y)));
  f.series.push_back(series_of("both", curve(study, "curves", What::kBoth, "gaussian", "", y)));
  return line_figure(f, ppl ? "The same cells as above, by their perplexity on the text." : "The same cells as above, by top-1 agreement.", "r");
}

std::string gamma_figure(const Study& study) {
  LineFigure f;
  f.title = "Noise in proportion to |x|^γ, at r = 1/16";
  f.x_label = "γ";
  f.y_label = "KL divergence, nats";
  f.log_y = true;
  f.series.push_back(series_of("weights", curve(study, "gamma", What::kWeights, "gamma")));
  f.series.push_back(series_of("activations", curve(study, "gamma", What::kActivations, "gamma")));
  static const std::set<std::string> kMarked = {"Q4_K", "Q2_K", "IQ4_XS", "MXFP4", "Q8_0"};
  for (const ErrorSlope& s : study.slopes)
    if (kMarked.contains(s.codec)) f.marks.emplace_back(s.slope, s.codec);
  return line_figure(f, "Low is benign. Dashed: where the errors of real codecs stand, by the slope of their error over the size of the weight.", "γ");
}

std::string gamma_by_role(const Study& study) {
  std::set<std::string> roles;
  for (const auto& [cell, r] : study.cells)
    if (cell.part == "gamma by role") roles.insert(cell.role);
  if (roles.empty()) return "";
  LineFigure f;
  f.title = "The same by role, at r = 1/8";
  f.x_label = "γ";
  f.y_label = "KL divergence, nats";
  f.log_y = true;
  for (const std::string& role : roles) f.series.push_back(series_of(role, curve(study, "gamma by role", What::kWeights, "gamma", role)));
  return line_figure(f, "Noise in the weights of one role in all layers.", "γ");
}

std::string slope_figure(const Study& study) {
  LineFigure f;
  f.title = "Error of the codecs over the size of the weight";
  f.x_label = "|x| over the tensor's root mean square";
  f.y_label = "root mean square error, relative to the whole";
  f.log_x = f.log_y = true;
  static const std::set<std::string> kShown = {"Q2_K", "Q4_K", "IQ4_XS", "MXFP4", "Q8_0", "IQ2_S", "Q4_0"};
  std::vector<std::vector<std::string>> rows;
  for (const ErrorSlope& s : study.slopes) {
    rows.push_back({s.codec, fmt::format("{:.3f}", s.slope)});
    if (!kShown.contains(s.codec)) continue;
    FigureSeries line;
    line.name = s.codec;
    for (size_t i = 0; i < s.magnitudes.size(); ++i) line.points.push_back({s.magnitudes[i], s.errors[i], s.errors[i], s.errors[i]});
    f.series.push_back(line);
  }
  return with_table(line_svg(f), "Flat: the error does not know the value (slope 0). A uniform grid is flat within a block and rises a little from block to block.",
                    html_table({"codec", "slope"}, rows));
}

std::string clip_figure(const Study& study) {
  LineFigure f;
  f.title = "Clipping the largest magnitudes";
  f.x_label = "share of the values clipped";
  f.y_label = "KL divergence, nats";
  f.log_x = f.log_y = true;
  f.series.push_back(series_of("weights", curve(study, "clipping", What::kWeights, "clip")));
  f.series.push_back(series_of("activations", curve(study, "clipping", What::kActivations, "clip")));
  f.x_ticks = {{0.0001, "0.01 %"}, {0.001, "0.1 %"}, {0.01, "1 %"}};
  return line_figure(f, "Weights: of each tensor. Activations: of each token.", "share");
}

std::string map_figure(const Study& study) {
  std::vector<std::string> columns;
  std::set<int> layers;
  for (size_t i = 0; i < study.sensitivities.size(); ++i) {
    if (std::find(columns.begin(), columns.end(), study.sensitivity_roles[i]) == columns.end()) columns.push_back(study.sensitivity_roles[i]);
    layers.insert(study.sensitivity_layers[i]);
  }
  if (columns.empty()) return "";
  HeatFigure f;
  f.title = "Sensitivity: divergence per squared relative noise";
  f.columns = columns;
  for (const int layer : layers) {
    f.rows.push_back(layer < 0 ? "outside" : fmt::format("layer {}", layer));
    std::vector<double> row(columns.size(), std::numeric_limits<double>::quiet_NaN());
    for (size_t i = 0; i < study.sensitivities.size(); ++i)
      if (study.sensitivity_layers[i] == layer)
        row[static_cast<size_t>(std::find(columns.begin(), columns.end(), study.sensitivity_roles[i]) - columns.begin())] = study.sensitivities[i].alpha;
    f.values.push_back(row);
  }
  std::vector<std::vector<std::string>> rows;
  for (size_t i = 0; i < study.sensitivities.size(); ++i)
    rows.push_back({study.sensitivity_names[i], short_number(study.sensitivities[i].r), short_number(study.sensitivities[i].kld), short_number(study.sensitivities[i].alpha)});
  return with_table(heat_svg(f), "Gaussian noise in one tensor at a time. Shades are logarithmic.", html_table({"tensor", "r", "divergence", "sensitivity"}, rows));
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
         html_table({"codec", "bits per weight", "r", "divergence", "equivalent r", "efficiency", "error slope", "Δ ln PPL", "same top token"}, cells);
}

std::string other_tables(const Study& study) {
  std::string html;
  std::vector<std::vector<std::string>> rows;
  for (const auto& [cell, r] : study.cells)
    if (cell.what == What::kNumerics)
      rows.push_back({cell.weights.empty() ? "float" : cell.weights, cell.activations.empty() ? "float" : cell.activations, short_number(r.kld),
                      fmt::format("{:+.4f}", r.ln_ppl_ratio), fmt::format("{:.2f} %", 100 * r.top1)});
  if (!rows.empty()) html += "<h2>Number formats (linears of the blocks)</h2>" + html_table({"weights", "activations", "divergence", "Δ ln PPL", "same top token"}, rows);
  rows.clear();
  for (const auto& [cell, r] : study.cells)
    if (cell.part == "activations by role")
      rows.push_back({cell.role, short_number(r.kld), fmt::format("{:+.4f}", r.ln_ppl_ratio), fmt::format("{:.2f} %", 100 * r.top1)});
  if (!rows.empty()) html += "<h2>Gaussian noise of r = 1/16 in the inputs of one role</h2>" + html_table({"role", "divergence", "Δ ln PPL", "same top token"}, rows);
  rows.clear();
  for (const OutlierChannel& o : study.outliers)
    rows.push_back({o.weight, fmt::format("{}", o.channel), fmt::format("{:.1f}", o.peak), fmt::format("{:.2f} %", 100 * o.share)});
  if (!rows.empty()) html += "<h2>Outlier channels of the inputs</h2>" + html_table({"input of", "channel", "largest over root mean square", "share of the energy"}, rows);
  return html;
}

}  // namespace

std::string study_page(const Study& study) {
  std::string body = "<h1>" + html_escape(study.model) + " through the lens of perturbation</h1>\n";
  body += fmt::format("<p class=\"note\">{} windows of {} tokens, the second half of each scored ({} tokens), f32; perplexity of the unchanged model {:.3f}. "
                      "Divergence: mean KL(unchanged ‖ changed). {} of {} cells measured, {} in this run.</p>\n",
                      study.n_windows, study.context, study.n_tokens_scored, std::exp(study.mean_nll), study.cells.size(), study.n_cells, format_duration(study.seconds));
  body += "<h2>Findings</h2><ul class=\"findings\">\n";
  for (const Remark& said : findings(study)) body += "<li>" + html_escape(said.text) + "</li>\n";
  body += "</ul>\n<h2>Figures</h2><div class=\"figures\">\n";
  body += curves(study, What::kWeights) + curves(study, What::kActivations) + against_gaussian(study) + map_figure(study) + gamma_figure(study) + gamma_by_role(study) +
          slope_figure(study) + clip_figure(study) + other_measures(study, false) + other_measures(study, true);
  body += "</div>\n" + codec_table(study) + other_tables(study);
  return html_page("Perturbation study of " + study.model, body);
}

}  // namespace tsubu
