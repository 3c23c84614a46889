// tsubu quantize: a model in, a smaller GGUF out.
#include <memory>
#include <optional>

#include "base/file.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/quantize_report.h"
#include "pipeline/quantize.h"

namespace tsubu {
namespace {

struct Options {
  std::string model, to = "Q4_K_M", recipe_file, stats;
  std::vector<std::string> tensor_types, texts;
  CorpusOptions corpus;
  bool no_measure = false;
  QuantizeOptions quantize;
};

Recipe chosen_recipe(const Options& o) {
  if (o.recipe_file.empty()) return recipe_named(o.to);
  return recipe_from_json(parse_json(read_text_file(o.recipe_file, uint64_t{1} << 24), o.recipe_file), o.recipe_file);
}

ExitCode run(const Options& o, const CommonOptions& common) {
  QuantizeOptions options = o.quantize;
  const Recipe recipe = chosen_recipe(o);
  for (const std::string& text : o.tensor_types) options.plan.overrides.push_back(parse_type_override(text));
  for (const std::string* type : {&options.plan.output_type, &options.plan.embedding_type, &options.plan.fallback})
    if (!type->empty()) type_named(*type);

  std::optional<Imatrix> stats;
  if (!o.stats.empty()) stats = Imatrix::load(o.stats);
  options.stats = stats ? &*stats : nullptr;
  options.stats_path = o.stats;
  options.plan.has_stats = stats.has_value();
  options.measure_error = !o.no_measure;
  options.n_threads = common.threads;

  const auto model = Model::open(o.model);
  std::optional<Corpus> corpus;
  if (!o.texts.empty()) {
    CorpusOptions corpus_options = o.corpus;
    for (const std::string& text : o.texts) corpus_options.texts.push_back(parse_corpus_text(text));
    corpus = read_corpus(*model, corpus_options);
    options.corpus = &*corpus;
  }
  const QuantizeResult result = quantize(*model, recipe, options);
  if (common.json)
    print_json(to_json(result));
  else
    print_out(quantize_report(result, options.output, options.dry_run));
  return ExitCode::kDone;
}

Action declare(CLI::App& app) {
  auto o = std::make_shared<Options>();
  PlanOptions& plan = o->quantize.plan;
  app.add_option("MODEL", o->model, "GGUF file or Hugging Face directory")->required()->type_name(" ");
  app.add_option("-o,--output", o->quantize.output, "GGUF file to write")->required()->type_name("OUT");
  auto* to = app.add_option("--to", o->to, "Type or stock recipe (default Q4_K_M; see tsubu types, tsubu recipes)")
                 ->type_name("TYPE|RECIPE");
  app.add_option("--recipe", o->recipe_file, "Recipe from a file (tsubu recipes NAME prints one)")
      ->type_name("R.json")
      ->excludes(to);
  app.add_option("--stats", o->stats, "Importance matrix, GGUF or .dat")->type_name("F");
  app.add_option("--text", o->texts, "Calibration text, F or F:WEIGHT; repeatable")->type_name("F")->allow_extra_args(false);
  app.add_option("--ctx", o->corpus.context, "Tokens of a calibration window")->type_name("N");
  app.add_option("--chunks", o->corpus.max_chunks, "Calibration windows at most")->type_name("N");
  CalibratedOptions& c = o->quantize.calibrated;
  app.add_option("--damping", c.damping, "")->type_name("X")->group("");
  app.add_option("--passes", c.round.descent_passes, "")->group("");
  app.add_option("--asymmetric", c.asymmetric, "")->group("");
  app.add_option("--residual", c.residual, "")->group("");
  app.add_option("--residual-share", c.residual_share, "")->group("");
  app.add_option("--round-embeddings", c.embeddings, "")->group("");
  app.add_option("--embedding-damping", c.embedding_damping, "")->group("");
  app.add_option("--held-out", c.held_out, "")->group("");
  app.add_option("--feedback", c.round.feedback, "")->group("");
  app.add_option("--choose-scales", c.round.choose_scales, "")->group("");
  app.add_flag("--pure", plan.pure, "The recipe's default type for every matrix");
  app.add_option("--tensor-type", o->tensor_types, "Type of the tensors whose name the regular expression matches; repeatable")
      ->type_name("PATTERN=TYPE")
      ->allow_extra_args(false);
  app.add_option("--output-type", plan.output_type, "Type of the head")->type_name("TYPE");
  app.add_option("--embedding-type", plan.embedding_type, "Type of the token embedding")->type_name("TYPE");
  app.add_flag("--keep-output", plan.keep_output, "Leave the head as it is");
  app.add_option("--fallback", plan.fallback, "Type for rows that do not fit the wanted type's block")->type_name("TYPE");
  app.add_flag("--dry-run", o->quantize.dry_run, "Only plan: types, size, estimated time");
  app.add_flag("--no-measure", o->no_measure, "Do not measure the error of each tensor");
  return [o](const CommonOptions& common) { return run(*o, common); };
}

}  // namespace

extern const Command kQuantizeCommand;
const Command kQuantizeCommand = {"quantize", "MODEL -o OUT", "Make a model smaller, by a recipe",
                                  "tsubu quantize model-f16.gguf -o model-q4.gguf --to Q4_K_M\n"
                                  "tsubu quantize hf_directory -o model-iq4.gguf --to IQ4_XS --stats imatrix.gguf",
                                  declare};

}  // namespace tsubu
