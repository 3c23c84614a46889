// tsubu lint: what a checkpoint really is, and what is wrong with it.
#include "pipeline/lint.h"

#include <memory>

#include "cli/command.h"
#include "cli/output.h"
#include "cli/table.h"
#include "hub/model.h"

namespace tsubu {
namespace {

struct Options {
  std::string model;
  bool modules = false;
};

void print_result(const LintResult& r, const Options& o) {
  print_out(fmt::format("{}: {}{}\n", r.path, r.layout.empty() ? "not readable" : "layout " + r.layout,
                        r.method.empty() ? "" : ", quant_method \"" + printable(r.method) + "\""));
  for (const Finding& f : r.findings)
    print_out(fmt::format("{}: {}: {} [{}]\n", lint_level_name(f.level), printable(f.where), printable(f.message), f.check));
  if (o.modules && !r.modules.empty()) {
    Table table({"module", "kind", ">zero scales", ">dead", ">saturated", ">codes used", ">entropy", ">rms"});
    for (const ModuleStatistics& m : r.modules)
      table.add({m.name, m.kind, fmt::format("{}", m.n_zero_scales), fmt::format("{}", m.n_dead_groups),
                 fmt::format("{}", m.n_saturated_groups), fmt::format("{} of {}", m.n_codes_used, m.n_codes),
                 fmt::format("{:.3f}", m.code_entropy), fmt::format("{:.4g}", m.rms)});
    print_out("\n" + table.text());
  }
  print_out(fmt::format("{} errors, {} warnings, {} notes\n", r.count(LintLevel::kError), r.count(LintLevel::kWarning),
                        r.count(LintLevel::kNote)));
}

Action declare(CLI::App& app) {
  auto o = std::make_shared<Options>();
  app.add_option("MODEL", o->model, "GGUF file, Hugging Face directory or org/name of the hub")->required()->type_name(" ");
  app.add_flag("--modules", o->modules, "A line for each quantized module: scales, codes, entropy");
  return [o](const CommonOptions& common) {
    ThreadPool pool(common.threads);
    const LintResult result = lint(model_path(o->model), pool);
    if (common.json)
      print_json(to_json(result));
    else
      print_result(result, *o);
    return result.count(LintLevel::kError) > 0 ? ExitCode::kGateFailed : ExitCode::kDone;
  };
}

}  // namespace

extern const Command kLintCommand;
const Command kLintCommand = {"lint", "MODEL", "What a checkpoint really is, and what is wrong with it",
                              "tsubu lint gptq_directory --modules", declare};

}  // namespace tsubu
