// Training on the page: the curve on held-out text and on what was trained on.
#include <fmt/format.h>

#include "base/size.h"
#include "page/html.h"
#include "report/page.h"

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
    const std::string judged = fmt::format("{}: {}; {} {}/s, {}", w("tune.judged"), t.at("judged_tokens").get<uint64_t>(),
                                           digits(t.at("tokens_per_second").get<double>()), w("tune.tokens"),
                                           format_duration(t.at("seconds").get<double>()));
    ChartSeries held{w("tune.held"), {}, 1, ChartSeries::Form::kLine, judged}, trained{w("tune.trained"), {}, 2, ChartSeries::Form::kLine, judged};
    XyChart chart{w("tune"), {w("tune.tokens"), false, false, {}, {}, {}}, {w("tune.loss"), true, false, {}, {}, {}}, {}, {}, ""};
    HtmlTable table({">" + w("tune.step"), ">" + w("tune.tokens"), ">" + w("tune.trained"), ">" + w("tune.held"),
                     ">" + w("tune.text"), ""});
    for (size_t i = 0; i < points.size(); ++i) {
      const Json& p = points[i];
      const double tokens = p.at("tokens").get<double>(), divergence = p.at("divergence").get<double>();
      const double loss = p.at("loss").get<double>();
      held.points.push_back({tokens, divergence, 0, 0, ""});
      if (i > 0) trained.points.push_back({tokens, loss, 0, 0, ""});
      if (i == t.at("best").get<size_t>()) chart.marks.emplace_back(tokens, w("tune.written"));
      table.add({fmt::format("{}", p.at("step").get<uint64_t>()), fmt::format("{}", p.at("tokens").get<uint64_t>()),
                 i > 0 ? with_protocol(digits(loss), judged) : "", with_protocol(digits(divergence), judged),
                 with_protocol(digits(p.at("cross_entropy").get<double>()), judged),
                 i == t.at("best").get<size_t>() ? escape(w("tune.written")) : ""});
    }
    chart.series = {std::move(held), std::move(trained)};
    out += "<h3>" + escape(name_of(*run)) + "</h3>" + chart_figure(page.charts.add(chart)) + "<details><summary>" + escape(w("numbers")) +
           "</summary>" + table.html() + "</details><p class=\"note\">" + escape(judged) + "</p>";
  }
  return out.empty() ? "" : fmt::format("<section id=\"tune\"><h2>{}</h2>\n<p>{}</p>\n{}</section>\n", escape(w("tune")),
                                        escape(w("tune.lead")), out);
}

}  // namespace tsubu
