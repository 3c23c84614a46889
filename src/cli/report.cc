// tsubu report: one page from the JSON of runs.
#include "report/report.h"

#include <memory>

#include "base/file.h"
#include "base/progress.h"
#include "cli/checks.h"
#include "cli/command.h"
#include "cli/output.h"

namespace tsubu {
namespace {

struct Options {
  std::vector<std::string> runs;
  std::string output, language = "en", title, currency = "$";
  std::optional<double> machine_hour, kwh, tokens_per_month;
  double once = 0;
};

ExitCode run(const Options& o, const CommonOptions& common) {
  ReportOptions options;
  options.language = language_named(o.language);
  options.title = o.title;
  options.prices = {o.currency, o.machine_hour, o.kwh, o.tokens_per_month, o.once};
  std::vector<Run> runs;
  for (const std::string& path : o.runs) {
    if (same_file(path, o.output))
      fail(ExitCode::kUsage, "report: {} would be overwritten by the page: give another -o", path);
    runs.push_back({path, parse_json(read_text_file(path), path)});
  }
  const std::string page = make_report(runs, options);
  write_text_file(o.output, page);
  if (common.json) {
    Json json = {{"output", o.output}, {"size_bytes", page.size()}, {"language", o.language}, {"runs", Json::array()}};
    for (const Run& r : runs) json["runs"].push_back({{"path", r.path}, {"kind", run_kind(r)}});
    print_json(json);
  } else {
    note(fmt::format("{}: a page of {} run{}", o.output, runs.size(), runs.size() == 1 ? "" : "s"));
  }
  return ExitCode::kDone;
}

Action declare(CLI::App& app) {
  auto o = std::make_shared<Options>();
  app.add_option("RUN", o->runs, "JSON of certify, eval, bench, lens, quantize or tune")->required()->type_name(" ");
  app.add_option("-o,--output", o->output, "The page: one HTML file that needs nothing else")
      ->required()
      ->type_name("F");
  app.add_option("--lang", o->language, "en or ja (default en)")->type_name("L");
  app.add_option("--title", o->title, "Instead of the default heading")->type_name("TEXT");
  app.add_option("--price-hour", o->machine_hour, "Price of the machine for an hour: adds the costs")
      ->check(number_between(0, 1e12))
      ->type_name("X");
  app.add_option("--price-kwh", o->kwh, "Price of a kilowatt-hour, where energy was measured")
      ->check(number_between(0, 1e12))
      ->type_name("X");
  app.add_option("--tokens-per-month", o->tokens_per_month, "Tokens written in a month")
      ->check(number_between(0, 1e18))
      ->type_name("N");
  app.add_option("--price-once", o->once, "What making and checking the candidate costs, for the break-even")
      ->check(number_between(0, 1e15))
      ->type_name("X");
  app.add_option("--currency", o->currency, "Written before amounts (default $)")->type_name("TEXT");
  return [o](const CommonOptions& common) { return run(*o, common); };
}

}  // namespace

extern const Command kReportCommand;
const Command kReportCommand = {
    "report", "RUN.json… -o report.html", "One page for people from the JSON of runs",
    "tsubu report run.json -o report.html\n"
    "tsubu report run.json quantize.json -o report.html --lang ja --price-hour 0.8 --tokens-per-month 2e9",
    declare};

}  // namespace tsubu
