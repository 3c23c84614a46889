// Training on the page: the curve on held-out text and on what was trained on.
#include <fmt/format.h>

#include "base/size.h"
#include "report/html.h"
#include "report/page.h"
#include "report/plot.h"

namespace tsubu {
namespace {

std::string digits(double v) { return fmt::format("{:.4g}", v); }

std::string name_of(const Json& run) {
  const auto output = run.value("output", "");
  return output.substr(output.rfind('/') + 1);
}

}  // namespace

std::string training_section(const PageData& page) {
  const Words& w = page.words;
  std::string out;
  for (const Json* run : page.quantizes) {
    if (!run->contains("training")) continue;
    const Json& t = run->at("training");
    const Json& points = t.at("curve");
    Curve held{w("tune.held"), {}, {}, 1}, trained{w("tune.trained"), {}, {}, 2};
    HtmlTable table({">" + w("tune.step"), ">" + w("tune.tokens"), ">" + w("tune.trained"), ">" + w("tune.held"),
                     ">" + w("tune.text"), ""});
    for (size_t i = 0; i < points.size(); ++i) {
      const Json& p = points[i];
      const double tokens = p.at("tokens").get<double>(), divergence = p.at("divergence").get<double>();
      const double loss = p.at("loss").get<double>();
      if (divergence > 0) {
        held.x.push_back(tokens);
        held.y.push_back(divergence);
      }
      if (i > 0 && loss > 0) {
        trained.x.push_back(tokens);
        trained.y.push_back(loss);
      }
      table.add({fmt::format("{}", p.at("step").get<uint64_t>()), fmt::format("{}", p.at("tokens").get<uint64_t>()),
                 i > 0 ? digits(loss) : "", digits(divergence), digits(p.at("cross_entropy").get<double>()),
                 i == t.at("best").get<size_t>() ? escape(w("tune.written")) : ""});
    }
    const std::string plot = curve_plot({held, trained}, {w("tune.tokens"), false, {}, {}}, {w("tune.loss"), true, {}, {}});
    out += "<h3>" + escape(name_of(*run)) + "</h3>" + (plot.empty() ? "" : "<figure>" + plot + "</figure>") +
           "<details><summary>" + escape(w("numbers")) + "</summary>" + table.html() + "</details><p class=\"note\">" +
           escape(fmt::format("{}: {}; {} {}/s, {}", w("tune.judged"), t.at("judged_tokens").get<uint64_t>(),
                              digits(t.at("tokens_per_second").get<double>()), w("tune.tokens"),
                              format_duration(t.at("seconds").get<double>()))) +
           "</p>";
  }
  return out.empty() ? "" : fmt::format("<section id=\"tune\"><h2>{}</h2>\n<p>{}</p>\n{}</section>\n", escape(w("tune")),
                                        escape(w("tune.lead")), out);
}

}  // namespace tsubu
