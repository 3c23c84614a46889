// tsubu explain: what a type, a method or a metric is, on real numbers.
#include "report/explain.h"

#include <memory>

#include "cli/command.h"
#include "cli/output.h"
#include "hub/model.h"

namespace tsubu {
namespace {

struct Options {
  std::string name, model, tensor, language = "en";
  uint64_t row = 0;
};

ExitCode run(const Options& o, const CommonOptions& common) {
  const Language language = language_named(o.language);
  std::string text;
  if (o.name.empty()) {
    text = explain_overview(language);
  } else {
    text = explain(o.name, o.model.empty() ? built_in_row() : example_row(*Model::open(model_path(o.model)), o.tensor, o.row),
                   language);
  }
  if (common.json)
    print_json({{"name", o.name}, {"language", o.language}, {"text", text}});
  else
    print_out(text);
  return ExitCode::kDone;
}

Action declare(CLI::App& app) {
  auto o = std::make_shared<Options>();
  app.add_option("NAME", o->name, "A type, method or metric; none: what there is")->type_name(" ");
  app.add_option("MODEL", o->model, "Show the type on a row of this model")->type_name(" ");
  app.add_option("--tensor", o->tensor, "The row's tensor (default: the first matrix of the blocks)")
      ->type_name("NAME");
  app.add_option("--row", o->row, "Number of the row (default 0)")->check(CLI::NonNegativeNumber)->type_name("N");
  app.add_option("--lang", o->language, "en or ja (default en)")->type_name("L");
  return [o](const CommonOptions& common) { return run(*o, common); };
}

}  // namespace

extern const Command kExplainCommand;
const Command kExplainCommand = {
    "explain", "[NAME] [MODEL]", "What a type, method or metric is, on real numbers",
    "tsubu explain Q4_K model.gguf --tensor blk.0.ffn_up.weight --row 7\ntsubu explain kld --lang ja", declare};

}  // namespace tsubu
