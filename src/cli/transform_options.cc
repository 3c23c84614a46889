#include "cli/transform_options.h"

#include <algorithm>

#include "cli/checks.h"
#include "cli/table.h"

namespace tsubu {
namespace {

std::string number(double v) { return v == 0 ? "" : fmt::format("{:.4g}", v); }

}  // namespace

void declare_transform_options(CLI::App& app, TransformChoice& choice) {
  app.add_option(
         "--transform", choice.words,
         "Before rounding: awq, smooth (SmoothQuant), rotate (or rotate-residual, rotate-heads); several by commas")
      ->delimiter(',')
      ->type_name("NAMES")
      ->allow_extra_args(false);
  app.add_option("--alpha", choice.alpha, "SmoothQuant's exponent (default: searched for each group)")
      ->check(number_between(0, 1))
      ->type_name("X");
  app.add_option("--rotation-seed", choice.seed, "Of the rotations (default 1)")->type_name("N");
}

TransformRequest transform_request(const TransformChoice& choice) {
  TransformRequest request;
  request.names = transforms_named(choice.words);
  request.seed = choice.seed;
  if (choice.alpha.empty()) return request;
  if (std::find(request.names.begin(), request.names.end(), "smoothquant") == request.names.end())
    fail(ExitCode::kUsage, "--alpha is SmoothQuant's: add --transform smooth");
  request.alpha = std::stod(choice.alpha);
  return request;
}

std::string transform_text(const TransformReport& report) {
  std::string text = fmt::format("{}\n", report.name);
  for (const std::string& line : report.notes) text += "  " + line + "\n";
  if (report.groups.empty()) return text;
  Table table({"linears", ">alpha", ">error before", ">after"});
  for (const TransformedGroup& g : report.groups) {
    std::string first = g.linears.front();
    if (g.linears.size() > 1) first += fmt::format(" + {}", g.linears.size() - 1);
    table.add({first, fmt::format("{:g}", g.alpha), number(g.error_before), number(g.error)});
  }
  text += table.text(2);
  for (const Transform& t : transforms())
    if (t.name == report.name && !t.measure.empty()) text += fmt::format("  error: {}\n", t.measure);
  return text;
}

}  // namespace tsubu
