#include "report/report.h"

#include <fmt/format.h>

#include "base/error.h"
#include "page/document.h"
#include "page/html.h"
#include "report/page.h"

namespace tsubu {
namespace {

void need(const Run& run, const char* key) {
  if (!run.json.contains(key))
    fail(ExitCode::kBadInput, "{}: expected the key \"{}\" that such a run has", run.path, key);
}

}  // namespace

std::string run_kind(const Run& run) {
  const Json& j = run.json;
  if (j.is_object()) {
    if (j.contains("candidates") && j.contains("gates")) return "certify";
    if (j.contains("prefill") && j.contains("decode") && j.contains("limits")) return "bench";
    if (j.contains("perplexity") && j.contains("tokens_scored")) return "eval";
    if (j.contains("cells") && j.contains("sensitivities") && j.contains("codecs")) return "lens";
    if (j.contains("tensors") && j.contains("bits_per_weight") && j.contains("source_bytes"))
      return j.contains("training") ? "tune" : "quantize";
  }
  fail(ExitCode::kBadInput, "{}: not the JSON of certify, eval, bench, lens, quantize or tune (make it with --json, or certify -o)",
       run.path);
}

std::string make_report(std::span<const Run> runs, const ReportOptions& options) {
  for (const Run& run : runs) {
    const std::string kind = run_kind(run);
    if (kind == "certify")
      for (const char* key : {"base", "texts", "calibration_texts", "tasks", "stability", "verdict"}) need(run, key);
    if (kind == "bench") need(run, "model");
  }
  std::string body;
  PageData page;
  Json explained;
  try {
    page = gather(runs, options);
    explained = explained_rows(page);
    // One after the other: charts are numbered as they come.
    for (const auto section : {verdict_section, models_section, pareto_section, divergence_section, layers_section, lens_section, training_section,
                               tasks_section, generation_section, worst_section, speed_section, cost_section})
      body += section(page);
    body += how_section(page, runs);
    body += explain_section(page, explained);
  } catch (const Json::exception& e) {
    fail(ExitCode::kBadInput, "{}: a run's JSON is not what its command writes: {}",
         runs.empty() ? "" : runs.front().path, e.what());
  }
  const Words& w = page.words;
  const std::string title = options.title.empty() ? w("title") : options.title;
  std::string nav;
  for (const char* id :
       {"models", "pareto", "divergence", "layers", "lens", "tune", "tasks", "generation", "worst", "speed", "cost", "how", "explain"})
    if (body.find(fmt::format("<section id=\"{}\">", id)) != std::string::npos)
      nav += fmt::format("<a href=\"#{}\">{}</a>", id, escape(w(id)));
  Json all = Json::array();
  for (const Run& run : runs) all.push_back({{"path", run.path}, {"run", run.json}});
  all.push_back({{"explained", explained}});
  all.push_back({{"worked_out", page.worked_out}});
  body = fmt::format("<h1>{}</h1><p class=\"made\">{}</p><nav>{}</nav>\n{}<details><summary>{}</summary><div class=\"scroll\"><pre id=\"runs\">{}</pre></div></details>\n",
                     escape(title), fmt::format(fmt::runtime(escape(w("made"))), TSUBU_VERSION), nav, body, escape(w("json")), escape(dump_json(all)));
  return page_document({std::string(w.code()), title, body, false}, page.charts);
}

}  // namespace tsubu
