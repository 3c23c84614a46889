// tsubu transform: a float model in, a float model that rounds better out.
#include <map>
#include <memory>
#include <optional>

#include "base/file.h"
#include "cli/checks.h"
#include "cli/command.h"
#include "cli/manifest_options.h"
#include "cli/output.h"
#include "cli/quantize_report.h"
#include "cli/transform_options.h"
#include "hub/model.h"
#include "pipeline/quantize.h"
#include "transform/transforms.h"

namespace tsubu {
namespace {

struct Options {
  std::string model, output, dtype = "F32", to, stats, alpha;
  std::map<std::string, bool> chosen;
  bool rotate = false, no_importance = false, pure = false, no_manifest = false;
  std::vector<std::string> texts;
  CorpusOptions corpus;
  uint64_t seed = 1;
};

// How the output was made: the source's digests (not those of the model in memory), what was done, and to what.
void write_manifest(const Options& o, const Json& given, const Model& model, const TransformResult& result, const QuantizeResult& written) {
  std::vector<InputFile> files = model_inputs(model);
  for (const std::string& text : o.texts) files.push_back({"text", parse_corpus_text(text).path, 0, ""});
  if (!o.stats.empty()) files.push_back({"statistics", o.stats, 0, ""});
  InputDigests digests(std::move(files));
  QuantizeResult shown = written;
  shown.inputs = digests.wait();
  Json manifest = manifest_json("transform", given, model, shown, o.output);
  manifest["transforms"] = to_json(result.reports);
  write_text_file(manifest_path(o.output), dump_json(manifest));
}

ExitCode run(const Options& o, const Json& given, const CommonOptions& common) {
  std::vector<std::string> names;
  bool needs_activations = false, needs_types = false;
  for (const Transform& t : transforms()) {
    const std::string name(t.name);
    if (!o.chosen.at(name) && !(o.rotate && name.starts_with("rotate-"))) continue;
    names.push_back(name);
    needs_activations |= t.needs_activations;
    needs_types |= t.needs_types;
  }
  if (names.empty()) fail(ExitCode::kUsage, "transform: nothing to do: choose a transform (tsubu transform --help)");
  if (needs_activations && o.texts.empty() == o.stats.empty())
    fail(ExitCode::kUsage, "transform: expected --text, or --stats of a file made with tsubu calibrate --gram");
  if (needs_types && o.to.empty())
    fail(ExitCode::kUsage, "transform: which type will be rounded to? expected --to, as for tsubu quantize");

  const auto model = Model::open(model_path(o.model));
  TransformOptions options;
  options.seed = o.seed;
  options.awq.importance = !o.no_importance;
  if (!o.alpha.empty()) options.smoothquant_alpha = std::stod(o.alpha);
  std::optional<Corpus> corpus;
  std::optional<Statistics> statistics;
  if (needs_activations && !o.texts.empty()) {
    CorpusOptions corpus_options = o.corpus;
    for (const std::string& text : o.texts) corpus_options.texts.push_back(parse_corpus_text(text));
    corpus = read_corpus(*model, corpus_options);
    options.source.corpus = &*corpus;
  } else if (needs_activations) {
    statistics = Statistics::open(o.stats);
    options.source.statistics = &*statistics;
  }
  std::map<std::string, const TypeInfo*> types;
  if (needs_types) {
    PlanOptions plan;
    plan.has_stats = !o.no_importance;
    plan.pure = o.pure;
    for (const PlannedTensor& t : assign_types(*model, recipe_named(o.to), plan)) types[t.tensor->name()] = t.type;
    options.awq.type_of = [&](const std::string& name) { return types.contains(name) ? types.at(name) : nullptr; };
  }

  ThreadPool pool(common.threads);
  const TransformResult result = apply_transforms(*model, names, options, pool);
  const QuantizeResult written = convert(*result.model, o.output, o.dtype, common.threads);
  if (!o.no_manifest) write_manifest(o, given, *model, result, written);
  if (common.json) {
    Json json = to_json(written);
    json["transforms"] = to_json(result.reports);
    print_json(json);
  } else {
    for (const TransformReport& report : result.reports) print_out(transform_text(report));
    print_out(quantize_report(written, o.output, false));
  }
  return ExitCode::kDone;
}

Action declare(CLI::App& app) {
  auto o = std::make_shared<Options>();
  app.add_option("MODEL", o->model, "GGUF file, Hugging Face directory or org/name of the hub, in F32, F16 or BF16")
      ->required()
      ->type_name(" ");
  app.add_option("-o,--output", o->output, "GGUF file to write")->required()->type_name("OUT");
  for (const Transform& t : transforms())
    app.add_flag("--" + std::string(t.name), o->chosen[std::string(t.name)], std::string(t.summary));
  app.add_flag("--rotate", o->rotate, "Both rotations");
  app.add_option("--to", o->to, "Type or recipe that will be rounded to (awq, clip)")->type_name("TYPE|RECIPE");
  app.add_flag("--pure", o->pure, "The recipe's default type for every matrix, as in quantize");
  auto* text = app.add_option("--text", o->texts, "Calibration text, F or F:WEIGHT; repeatable")
                   ->type_name("F")
                   ->allow_extra_args(false);
  app.add_option("--ctx", o->corpus.context, "Tokens of a calibration chunk (default 512)")
      ->check(CLI::Range(8, 1 << 20))
      ->type_name("N");
  app.add_option("--chunks", o->corpus.max_chunks, "At most so many chunks in all (default: all)")
      ->check(CLI::Range(1, 1 << 30))
      ->type_name("N");
  app.add_option("--stats", o->stats, "Statistics of MODEL instead of text (tsubu calibrate --gram)")
      ->type_name("F")
      ->excludes(text);
  app.add_option("--alpha", o->alpha, "SmoothQuant's exponent (default: searched for each group)")
      ->check(number_between(0, 1))
      ->type_name("X");
  app.add_flag("--no-importance", o->no_importance, "The rounding to come has no importance matrix");
  app.add_option("--seed", o->seed, "Of the rotations (default 1)")->type_name("N");
  app.add_option("--dtype", o->dtype, "F32, F16 or BF16 for the matrices (default F32: nothing is lost)")
      ->type_name("TYPE")
      ->transform(CLI::IsMember({"F32", "F16", "BF16"}, CLI::ignore_case).description(""));
  app.add_flag("--no-manifest", o->no_manifest, "Write no manifest (how the output was made)");
  return [o, &app](const CommonOptions& common) { return run(*o, given_options(app), common); };
}

}  // namespace

extern const Command kTransformCommand;
const Command kTransformCommand = {
    "transform", "MODEL -o OUT", "Changes of a float model before rounding that fold away: AWQ, SmoothQuant, rotations",
    "tsubu transform model-f16.gguf -o awq.gguf --awq --to Q4_0 --text calibration.txt\n"
    "tsubu transform model-f16.gguf -o smooth.gguf --smoothquant --alpha 0.8 --text calibration.txt\n"
    "tsubu transform model-f16.gguf -o rotated.gguf --rotate",
    declare};

}  // namespace tsubu
