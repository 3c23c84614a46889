// The lens' study on the page: curves of noise, the map of sensitivities, codecs as perturbations, findings.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "page/html.h"
#include "report/page.h"

namespace tsubu {
namespace {

std::string digits(double v) { return std::isfinite(v) ? fmt::format("{:.3g}", v) : "–"; }

// What was measured: also the protocol of the section's numbers.
std::string note_of(const Json& lens, const Words& w) {
  return fmt::format(fmt::runtime(w("lens.note")), lens.at("model").get<std::string>(), lens.at("windows").get<int>(), lens.at("context").get<int>(),
                     lens.at("tokens_scored").get<int>(), lens.at("cells").size(), lens.at("cells_in_all").get<int>());
}

// Mean divergence over the seeds by kind of noise and relative norm.
std::string curves_of(const PageData& page, const Json& lens, const std::string& what) {
  const Words& w = page.words;
  struct Sum {
    double r = 0, kld = 0, low = std::numeric_limits<double>::infinity(), high = 0;
    int n = 0;
  };
  std::map<std::string, std::map<std::string, Sum>> kinds;  // by r, as text of three digits
  for (const Json& cell : lens.at("cells")) {
    if (cell.at("what") != what || cell.at("part") != "curves" || cell.contains("role")) continue;
    const double r = cell.at("r").get<double>(), kld = cell.at("kld").get<double>();
    if (!(r > 0) || !(kld > 0)) continue;
    Sum& s = kinds[cell.at("kind").get<std::string>()][fmt::format("{:011.5f}", r)];
    s.r = r;
    s.kld += kld;
    s.low = std::min(s.low, kld);
    s.high = std::max(s.high, kld);
    ++s.n;
  }
  XyChart chart{w("lens." + what), {w("lens.r"), true, false, {}, {}, {}}, {w("kld"), true, false, {}, {}, {}}, {}, {}, ""};
  for (int e = 1; e <= 12; ++e) chart.x.ticks.emplace_back(std::exp2(-e), fmt::format("1/{}", 1 << e));
  const std::string how = note_of(lens, w) + w("lens.range.how");
  HtmlTable table({w("lens.kind"), ">r", ">" + w("kld.short"), ">" + w("lens.seeds"), ">" + w("lens.range")});
  for (const auto& [kind, points] : kinds) {
    ChartSeries c{kind, {}, static_cast<int>(chart.series.size()) + 1, ChartSeries::Form::kLine, how};
    for (const auto& [key, s] : points) {
      c.points.push_back({s.r, page.derived("noise in " + what + ", " + kind + ", r = " + digits(s.r), s.kld / s.n), s.low, s.high, ""});
      table.add({escape(kind), digits(s.r), with_protocol(digits(s.kld / s.n), how), fmt::format("{}", s.n),
                 s.n > 1 ? digits(s.low) + " – " + digits(s.high) : ""});
    }
    chart.series.push_back(std::move(c));
  }
  if (what == "weights" && !chart.series.empty()) {
    ChartSeries formats{w("lens.codecs.dots"), {}, 0, ChartSeries::Form::kDots, note_of(lens, w)};
    for (const Json& c : lens.at("codecs"))
      formats.points.push_back({c.at("r").get<double>(), c.at("kld").get<double>(), 0, 0, c.at("type").get<std::string>()});
    chart.series.push_back(std::move(formats));
  }
  if (table.empty()) return "";
  return "<h3>" + escape(w("lens." + what)) + "</h3>" + chart_figure(page.charts.add(chart)) + "<details><summary>" + escape(w("numbers")) + "</summary>" + table.html() + "</details>";
}

std::string map_of(const PageData& page, const Json& lens) {
  const Words& w = page.words;
  std::set<int> layers;
  HeatChart map;
  map.title = w("lens.map");
  map.value_name = w("lens.alpha");
  map.protocol = note_of(lens, w) + w("lens.map.how");
  for (const Json& s : lens.at("sensitivities")) {
    layers.insert(s.at("layer").get<int>());
    const auto role = s.at("role").get<std::string>();
    if (std::find(map.columns.begin(), map.columns.end(), role) == map.columns.end()) map.columns.push_back(role);
  }
  std::vector<std::string> headings = {w("layer")};
  for (const std::string& c : map.columns) headings.push_back(">" + c);
  HtmlTable table(std::move(headings));
  for (int layer : layers) {
    map.rows.push_back(layer < 0 ? "–" : std::to_string(layer));
    map.cells.emplace_back(map.columns.size());
    std::vector<std::string> line(map.columns.size() + 1);
    line[0] = map.rows.back();
    for (const Json& s : lens.at("sensitivities")) {
      if (s.at("layer").get<int>() != layer) continue;
      const auto at = static_cast<size_t>(std::find(map.columns.begin(), map.columns.end(), s.at("role").get<std::string>()) - map.columns.begin());
      const double alpha = s.at("alpha").get<double>();
      map.cells.back()[at] = HeatCell{alpha, s.at("name").get<std::string>(), "", false};
      line[at + 1] = with_protocol(digits(alpha), map.protocol);
    }
    table.add(std::move(line));
  }
  const std::string chart = page.charts.add(map);
  return chart.empty() ? "" : "<h3>" + escape(w("lens.map")) + "</h3>" + chart_figure(chart) + "<details><summary>" + escape(w("numbers")) + "</summary>" + table.html() + "</details>";
}

std::string codecs_of(const Json& lens, const Words& w) {
  HtmlTable table({w("lens.codec"), ">r", ">" + w("kld.short"), ">" + w("lens.equal"), ">" + w("lens.efficiency")});
  for (const Json& c : lens.at("codecs"))
    table.add({escape(c.at("type").get<std::string>()), digits(c.at("r").get<double>()), digits(c.at("kld").get<double>()),
               c.contains("equivalent_r") ? digits(c.at("equivalent_r").get<double>()) : "–",
               c.contains("efficiency") ? digits(c.at("efficiency").get<double>()) : "–"});
  return table.empty() ? "" : "<h3>" + escape(w("lens.codecs")) + "</h3>" + table.html();
}

}  // namespace

std::string lens_section(const PageData& page) {
  const Words& w = page.words;
  std::string body;
  for (const Json* lens : page.lenses) {
    page.derived("cells of the study", static_cast<double>((*lens).at("cells").size()));
    body += "<p class=\"note\">" + escape(note_of(*lens, w)) + "</p>";
    std::string list;
    for (const Json& finding : (*lens).at("findings")) list += "<li>" + escape(w.said(finding)) + "</li>\n";
    if (!list.empty()) body += "<ul>" + list + "</ul>";
    for (const char* what : {"weights", "activations"}) body += curves_of(page, *lens, what);
    body += map_of(page, *lens) + codecs_of(*lens, w);
  }
  if (body.empty()) return "";
  return fmt::format("<section id=\"lens\"><h2>{}</h2>\n<p>{}</p>\n{}</section>\n", escape(w("lens")), escape(w("lens.lead")), words_line(page, {"sensitivity", "kld", "activations", "tensor"}) + body);
}

}  // namespace tsubu
