// The lens' study on the page: curves of noise, the map of sensitivities, codecs as perturbations, findings.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "report/html.h"
#include "report/page.h"
#include "report/plot.h"

namespace tsubu {
namespace {

std::string digits(double v) { return std::isfinite(v) ? fmt::format("{:.3g}", v) : "–"; }

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
  std::vector<Curve> curves;
  HtmlTable table({w("lens.kind"), ">r", ">" + w("kld.short"), ">" + w("lens.seeds"), ">" + w("lens.range")});
  for (const auto& [kind, points] : kinds) {
    Curve c{kind, {}, {}, static_cast<int>(curves.size()) + 1};
    for (const auto& [key, s] : points) {
      c.x.push_back(s.r);
      c.y.push_back(page.derived("noise in " + what + ", " + kind + ", r = " + digits(s.r), s.kld / s.n));
      table.add({escape(kind), digits(s.r), digits(s.kld / s.n), fmt::format("{}", s.n),
                 s.n > 1 ? digits(s.low) + " – " + digits(s.high) : ""});
    }
    curves.push_back(std::move(c));
  }
  const std::string plot = curve_plot(curves, {w("lens.r"), true, {}, {}}, {w("kld.short"), true, {}, {}});
  if (table.empty()) return "";
  return "<h3>" + escape(w("lens." + what)) + "</h3>" + (plot.empty() ? "" : "<figure>" + plot + "</figure>") +
         "<details><summary>" + escape(w("numbers")) + "</summary>" + table.html() + "</details>";
}

std::string map_of(const Json& lens, const Words& w) {
  std::set<int> layers;
  std::vector<std::string> roles;
  for (const Json& s : lens.at("sensitivities")) {
    layers.insert(s.at("layer").get<int>());
    const auto role = s.at("role").get<std::string>();
    if (std::find(roles.begin(), roles.end(), role) == roles.end()) roles.push_back(role);
  }
  std::vector<std::string> rows;
  std::vector<std::vector<double>> values;
  std::vector<std::vector<std::string>> tips;
  for (int layer : layers) {
    rows.push_back(layer < 0 ? "–" : std::to_string(layer));
    values.emplace_back(roles.size(), std::numeric_limits<double>::quiet_NaN());
    tips.emplace_back(roles.size());
    for (const Json& s : lens.at("sensitivities")) {
      if (s.at("layer").get<int>() != layer) continue;
      const auto at = static_cast<size_t>(std::find(roles.begin(), roles.end(), s.at("role").get<std::string>()) - roles.begin());
      values.back()[at] = s.at("alpha").get<double>();
      tips.back()[at] = fmt::format("{}: {} = {}", s.at("name").get<std::string>(), w("lens.alpha"), digits(s.at("alpha").get<double>()));
    }
  }
  const std::string map = heat_map(rows, roles, values, tips, std::vector(rows.size(), std::vector<bool>(roles.size(), false)), w("lens.alpha"));
  return map.empty() ? "" : "<h3>" + escape(w("lens.map")) + "</h3><figure>" + map + "</figure>";
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
    body += "<p class=\"note\">" + fmt::format(fmt::runtime(escape(w("lens.note"))), escape((*lens).at("model").get<std::string>()), (*lens).at("windows").get<int>(),
                        (*lens).at("context").get<int>(), (*lens).at("tokens_scored").get<int>(), (*lens).at("cells").size(),
                        (*lens).at("cells_in_all").get<int>()) + "</p>";
    std::string list;
    for (const Json& finding : (*lens).at("findings")) list += "<li>" + escape(w.said(finding)) + "</li>\n";
    if (!list.empty()) body += "<ul>" + list + "</ul>";
    body += curves_of(page, *lens, "weights") + curves_of(page, *lens, "activations") + map_of(*lens, w) + codecs_of(*lens, w);
  }
  if (body.empty()) return "";
  return fmt::format("<section id=\"lens\"><h2>{}</h2>\n<p>{}</p>\n{}</section>\n", escape(w("lens")), escape(w("lens.lead")), body);
}

}  // namespace tsubu
