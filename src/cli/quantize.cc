// tsubu quantize: a model in, a smaller GGUF out.
#include "pipeline/quantize.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>

#include "base/file.h"
#include "base/size.h"
#include "cli/adapter_options.h"
#include "cli/checks.h"
#include "cli/command.h"
#include "cli/layout_output.h"
#include "cli/manifest_options.h"
#include "cli/output.h"
#include "cli/products_option.h"
#include "cli/quantize_report.h"
#include "cli/target_options.h"
#include "cli/transform_options.h"
#include "hub/model.h"
#include "pipeline/remarks.h"

namespace tsubu {
namespace {

struct Options {
  std::vector<std::string> adapters;
  std::string model, to, format = "gguf", recipe_file, stats, refine, effort = "default", products = "auto", expert_memory;
  std::vector<std::string> tensor_types, texts;
  CorpusOptions corpus;
  bool no_measure = false;
  int passes = -1;  // of descent; -1: as the effort says
  int64_t fisher_tokens = -1;  // the same
  int scale_epochs = -1;       // the same
  ScaleDescentOptions scales;
  TargetChoice target;
  QuantizeOptions quantize;
  LayoutOutputOptions layout;
  TransformChoice transform;
  Json given = Json::object();  // the options that a manifest keeps
  Json repeats;                 // the manifest that is repeated; null: none
  bool no_manifest = false;
};

Recipe chosen_recipe(const Options& o) {
  if (!o.repeats.is_null()) return recipe_from_json(o.repeats["treatment"]["recipe"], o.recipe_file + ": treatment.recipe");
  if (o.recipe_file.empty()) return recipe_named(o.to.empty() ? "Q4_K_M" : o.to);
  return recipe_from_json(parse_json(read_text_file(o.recipe_file, uint64_t{1} << 24), o.recipe_file), o.recipe_file);
}

// The Gram matrices of a statistics file; none when it is a plain importance matrix.
std::optional<Statistics> gram_statistics(const std::string& path, const Imatrix& stats) {
  const MappedFile file(path);
  constexpr std::string_view kMagic = "GGUF";
  if (file.bytes().size() < kMagic.size() || std::memcmp(file.bytes().data(), kMagic.data(), kMagic.size()) != 0)
    return {};
  Statistics statistics = Statistics::open(path);
  for (const auto& [name, entry] : stats.entries)
    if (statistics.has_gram(name)) return statistics;
  return {};
}

// Overrides that give every tensor of the model the type it has in a file made from it.
std::vector<TypeOverride> types_of(const Model& file, const Model& model) {
  std::vector<TypeOverride> overrides;
  for (const ModelTensor& tensor : model.tensors()) {
    const ModelTensor* same = file.find(tensor.name());
    if (!same || same->spec().shape != tensor.spec().shape)
      fail(ExitCode::kBadInput, "{}: {}: expected a tensor of the model's shape (was it made from {}?)", file.path(),
           tensor.name(), model.path());
    if (!tensor.spec().quantizable) continue;
    overrides.push_back({exact_pattern(tensor.name()), std::string(same->type().name)});
  }
  return overrides;
}

// Writes the manifest beside the output and compares it with the one that was repeated.
std::optional<Repetition> finish_manifest(const Options& o, const Json& manifest) {
  if (!o.no_manifest) write_text_file(manifest_path(o.quantize.output), dump_json(manifest));
  if (o.repeats.is_null()) return {};
  return compare_repetition(o.recipe_file, o.repeats, manifest);
}

ExitCode exit_code(const std::optional<Repetition>& repetition) {
  return repetition && repetition->is_broken() ? ExitCode::kGateFailed : ExitCode::kDone;
}

// What does not go with --transform.
void check_transform(const Options& o) {
  if (!o.stats.empty())
    fail(ExitCode::kUsage, "--stats {}: statistics of the model as it is do not describe it after --transform: give --text", o.stats);
  if (!o.refine.empty()) fail(ExitCode::kUsage, "--refine {}: was made from a model that was not transformed: leave --transform out", o.refine);
  if (o.target.any()) fail(ExitCode::kUsage, "--transform with a target: tsubu transform first, then quantize what it wrote to the size");
}

// --transform: the model as it is rounded, if there is one to make.
TransformedModel transform_gguf(const Options& o, const Model& model, const Recipe& recipe, QuantizeOptions& options) {
  const TransformRequest request = transform_request(o.transform);
  if (!request.any()) return {};
  std::map<std::string, const TypeInfo*> types;
  PlanOptions plan = options.plan;
  plan.has_stats = options.corpus != nullptr;
  for (const PlannedTensor& t : assign_types(model, recipe, plan)) types[t.tensor->name()] = t.type;
  AwqOptions awq;
  awq.importance = options.corpus != nullptr;
  awq.type_of = [&](const std::string& name) { return types.contains(name) ? types.at(name) : nullptr; };
  ThreadPool pool(options.n_threads);
  TransformedModel transformed = transform_for_rounding(model, request, options.corpus, awq, options.output, options.dry_run, pool);
  options.transform = transformed.treatment;
  options.calibrated.reference = &model;
  return transformed;
}

// To a size or a divergence: plan, round, measure.
ExitCode run_fit(const Options& o, const CalibrationEffort& effort, const Model& model, const QuantizeOptions& quantize,
                 const CommonOptions& common) {
  if (o.texts.empty()) fail(ExitCode::kUsage, "a plan needs text to measure on: add --text FILE");
  if (quantize.dry_run) fail(ExitCode::kUsage, "--dry-run with a target: tsubu plan says what it would be");
  check_can_create(o.target.costs);
  CorpusOptions corpus_options = o.corpus;
  for (const std::string& text : o.texts) corpus_options.texts.push_back(parse_corpus_text(text));
  if (corpus_options.max_chunks == 0) corpus_options.max_chunks = effort.chunks(corpus_options.context);
  const SplitText text = split_text(model, corpus_options, o.target.probes, o.target.held_out);
  FitOptions fit;
  fit.quantize = quantize;
  if (effort.tokens > 0) fit.quantize.corpus = &text.calibration;
  fit.quantize.statistics = nullptr;
  fit.planner.allowed = allowed_types(o.target);
  fit.planner.fused = o.target.fused;
  fit.planner.measure = measure_options(o.target);
  fit.planner.method = sensitivity_method(o.target.sensitivities);
  fit.planner.costs_path = o.target.costs;
  fit.planner.calibrated = effort.tokens > 0;
  fit.second_pass = effort.name == "best";
  fit.target = make_target(o.target, model, fit.quantize);
  fit.quantize.inputs = input_digests(model, fit.quantize);
  const FitResult result = quantize_to_fit(model, text, fit);
  finish_manifest(o, manifest_json("quantize", o.given, model, result.quantized, quantize.output));
  const Remark measured = remark(text.is_behind ? "fit.held_out"_made : "fit.judged"_made,
                                   {std::to_string(result.n_tokens_scored), std::to_string(text.held_out.size())});
  if (common.json) {
    Json json = to_json(result.quantized);
    json["recipe"] = to_json(result.recipe);
    json["plan"] = to_json(result.plan, result.costs);
    json["refinement"] = to_json(result.refinement);
    json["candidates"] = Json::array();
    for (const FitCandidate& c : result.candidates) json["candidates"].push_back(to_json(c));
    json["meets_target"] = result.meets_target;
    json["protocol"] = measured.text;
    json["protocol_parts"] = to_json(std::span(&measured, 1));
    print_json(json);
  } else {
    print_out(quantize_report(result.quantized, quantize.output, false));
    print_out("\n" + refinement_text(result.refinement, result.costs));
    print_out("\n" + candidates_text(result.candidates) + measured.text + "\n");
    if (!result.meets_target)
      print_out(fmt::format("the divergence asked for, {:g}, is not met: a smaller --max-kld aims lower, more types (--allow) reach further\n", o.target.max_kld));
  }
  return result.meets_target ? ExitCode::kDone : ExitCode::kGateFailed;
}

// --transform of a layout: the model as it is rounded, if there is one to make, and what the writing has to know.
TransformedModel transform_layout(const Options& o, const Model& model, WriteLayoutOptions& options) {
  const TransformRequest request = transform_request(o.transform);
  if (!request.any()) return {};
  if (!options.scheme) fail(ExitCode::kUsage, "--transform: --format {} rounds nothing: use tsubu transform", o.format);
  std::optional<Corpus> corpus;
  if (!options.corpus.texts.empty()) corpus = read_corpus(model, options.corpus);
  const std::map<std::string, SimFormat> formats = layout_formats(model, options);
  const AwqOptions awq = awq_for_formats(
      [&](const std::string& name) { return formats.contains(name) ? &formats.at(name) : nullptr; }, corpus.has_value());
  ThreadPool pool(options.n_threads);
  TransformedModel transformed = transform_for_rounding(model, request, corpus ? &*corpus : nullptr, awq, options.output, false, pool);
  options.untransformed = &model;
  options.transform = transformed.treatment;
  options.transform_reports = to_json(transformed.reports);
  options.notes = transformed.notes;
  return transformed;
}

// --format: a Hugging Face directory instead of a GGUF file.
ExitCode run_layout(const Options& o, const CommonOptions& common) {
  if (o.target.any())
    fail(ExitCode::kUsage, "--format {}: plan first (tsubu plan --format compressed-tensors), then quantize with --recipe", o.format);
  LayoutOutputOptions layout = o.layout;
  layout.to = o.to;
  if (o.passes >= 0) layout.passes = o.passes;
  WriteLayoutOptions options = layout_options(layout, o.format, common);
  options.output = o.quantize.output;
  options.keep_codes = false;
  options.damping = o.quantize.calibrated.damping;
  if (!o.expert_memory.empty()) options.expert_memory = parse_size_bytes(o.expert_memory);
  std::optional<Statistics> statistics;
  if (!o.stats.empty()) {
    statistics = Statistics::open(o.stats);
    options.stats = &*statistics;
    options.stats_path = o.stats;
  }
  const CalibrationEffort& effort = calibration_effort(o.effort);
  options.corpus = o.corpus;
  for (const std::string& text : o.texts) options.corpus.texts.push_back(parse_corpus_text(text));
  if (options.corpus.max_chunks == 0 && effort.tokens > 0)
    options.corpus.max_chunks = effort.chunks(options.corpus.context);
  const bool has_gram = !o.texts.empty() || (statistics && statistics->metadata().find(kInputsKey));
  if (layout.method.empty() && has_gram && effort.tokens > 0)
    options.method = {SimStart::kGptq, layout.passes};
  options.given_options = o.given;
  options.write_manifest = !o.no_manifest;
  const auto model = open_adapted(o.model, o.adapters);
  if (!o.repeats.is_null() && o.repeats.contains("choices"))
    options.choices = choices_from_json(o.repeats["choices"], o.format, o.recipe_file + ": choices");
  else if (!o.recipe_file.empty() && o.repeats.is_null())
    options.choices = choices_of_recipe(*model, chosen_recipe(o), {}, o.format);
  override_choices(*model, o.tensor_types, o.format, options.choices);
  const TransformedModel transformed = transform_layout(o, *model, options);
  const WriteLayoutResult result = write_layout(transformed.model ? *transformed.model : *model, options);
  std::optional<Repetition> repetition;
  if (!o.repeats.is_null()) repetition = compare_repetition(o.recipe_file, o.repeats, result.manifest);
  if (!common.json)
    for (const TransformReport& report : transformed.reports) print_out(transform_text(report));
  print_layout_result(result, options.output, common, repetition);
  return exit_code(repetition);
}

ExitCode run(const Options& o, const CommonOptions& common) {
  if (transform_request(o.transform).any()) check_transform(o);
  if (o.format != "gguf") return run_layout(o, common);
  QuantizeOptions options = o.quantize;
  for (const std::string& text : o.tensor_types) options.plan.overrides.push_back(parse_type_override(text));
  for (const std::string* type : {&options.plan.output_type, &options.plan.embedding_type, &options.plan.fallback})
    if (!type->empty()) type_named(*type);

  const CalibrationEffort& effort = calibration_effort(o.effort);
  CalibratedOptions& calibrated = options.calibrated;
  if (o.passes < 0)
    calibrated.round.descent_passes = effort.descent_passes;
  else
    calibrated.round.descent_passes = o.passes;

  calibrated.fisher_tokens = o.fisher_tokens < 0 ? effort.fisher_tokens : static_cast<uint64_t>(o.fisher_tokens);
  calibrated.products = products_named(o.products);
  if (!o.expert_memory.empty()) calibrated.expert_memory = parse_size_bytes(o.expert_memory);
  if (const int epochs = o.scale_epochs < 0 ? effort.scale_epochs : o.scale_epochs; epochs > 0) {
    calibrated.scales = o.scales;
    calibrated.scales->epochs = epochs;
  }

  std::optional<Imatrix> stats;
  std::optional<Statistics> statistics;
  if (!o.stats.empty()) {
    stats = Imatrix::load(o.stats);
    if (o.texts.empty() && effort.tokens > 0) statistics = gram_statistics(o.stats, *stats);
  }
  options.stats = stats ? &*stats : nullptr;
  options.statistics = statistics ? &*statistics : nullptr;
  options.stats_path = o.stats;
  options.measure_error = !o.no_measure;
  options.n_threads = common.threads;

  const auto model = open_adapted(o.model, o.adapters);
  if (o.target.any()) return run_fit(o, effort, *model, options, common);
  std::optional<Corpus> corpus;
  if (!o.texts.empty()) {
    if (effort.tokens == 0)
      fail(ExitCode::kUsage, "--effort fast reads no --text: leave one of them out, or give statistics with --stats");
    CorpusOptions corpus_options = o.corpus;
    for (const std::string& text : o.texts) corpus_options.texts.push_back(parse_corpus_text(text));
    if (corpus_options.max_chunks == 0)
      corpus_options.max_chunks = effort.chunks(corpus_options.context);
    corpus = read_corpus(*model, corpus_options);
    options.corpus = &*corpus;
  }
  std::unique_ptr<Model> start;
  Recipe recipe;
  if (o.refine.empty()) {
    recipe = chosen_recipe(o);
  } else {
    if (!corpus) fail(ExitCode::kUsage, "--refine {}: needs calibration text: add --text FILE", o.refine);
    start = Model::open(model_path(o.refine));
    calibrated.start = start.get();
    options.plan.overrides = types_of(*start, *model);
    recipe.name = "types of " + std::filesystem::path(o.refine).filename().string();
    recipe.default_type = "F16";
    if (const GgufValue* type = start->gguf_metadata().find("general.file_type"))
      recipe.file_type = static_cast<uint32_t>(type->as_uint().value_or(0));
  }
  if (!o.repeats.is_null() && !options.dry_run) {
    // The same files in a folder of another name are the same model.
    options.inputs = input_digests(*model, options);
    const Json& before = o.repeats["inputs"]["model"];
    if (before.value("sha256", "") == combined_digest(options.inputs->wait(), "model")) options.model_name = before.value("name", "");
  }
  const TransformedModel transformed = transform_gguf(o, *model, recipe, options);
  options.digest_output = !o.no_manifest || !o.repeats.is_null();
  QuantizeResult result = quantize(transformed.model ? *transformed.model : *model, recipe, options);
  result.notes.insert(result.notes.begin(), transformed.notes.begin(), transformed.notes.end());
  std::optional<Repetition> repetition;
  if (!options.dry_run && options.digest_output) {
    Json manifest = manifest_json("quantize", o.given, *model, result, options.output);
    if (transformed.model) manifest["transforms"] = to_json(transformed.reports);
    repetition = finish_manifest(o, manifest);
  }
  if (common.json) {
    Json json = to_json(result);
    if (transformed.model) json["transforms"] = to_json(transformed.reports);
    if (repetition) json["repeated"] = to_json(*repetition);
    print_json(json);
  } else {
    for (const TransformReport& report : transformed.reports) print_out(transform_text(report));
    print_out(quantize_report(result, options.output, options.dry_run));
    if (repetition) print_out(repetition_text(*repetition));
  }
  return exit_code(repetition);
}

std::shared_ptr<Options> declare_options(CLI::App& app);

// --recipe with a manifest: its options, as if they had been given.
ExitCode run_given(const Options& o, const CLI::App& app, const CommonOptions& common) {
  Options options = o;
  options.given = given_options(app);
  if (o.recipe_file.empty()) return run(options, common);
  const Json json = parse_json(read_text_file(o.recipe_file, uint64_t{1} << 28), o.recipe_file);
  if (!is_manifest(json)) return run(options, common);
  const Json manifest = read_manifest(o.recipe_file);
  CLI::App repeated;
  const std::shared_ptr<Options> again = declare_options(repeated);
  std::vector<std::string> words = repeated_words(manifest, o.recipe_file, app);
  std::reverse(words.begin(), words.end());
  try {
    repeated.parse(std::move(words));
  } catch (const CLI::ParseError& e) {
    fail(ExitCode::kBadInput, "{}: options: {}", o.recipe_file, e.what());
  }
  again->given = manifest["options"];
  again->repeats = manifest;
  again->recipe_file = o.recipe_file;
  again->no_manifest = o.no_manifest;
  if (again->format == "gguf" && !manifest.contains("treatment"))
    fail(ExitCode::kBadInput, "{}: expected a treatment", o.recipe_file);
  return run(*again, common);
}

std::shared_ptr<Options> declare_options(CLI::App& app) {
  auto o = std::make_shared<Options>();
  PlanOptions& plan = o->quantize.plan;
  app.add_option("MODEL", o->model, "GGUF file, Hugging Face directory or org/name of the hub")->required()->type_name(" ");
  declare_adapters(app, o->adapters);
  app.add_option("-o,--output", o->quantize.output, "GGUF file to write")->required()->type_name("OUT");
  auto* to = app.add_option("--to", o->to, "Type or stock recipe (default Q4_K_M; see tsubu types, tsubu recipes)")
                 ->type_name("TYPE|RECIPE|SCHEME");
  app.add_option("--format", o->format,
                 "gguf (default), or the layout of a Hugging Face directory: compressed-tensors, gptq, awq, bitsandbytes, "
                 "fp8; --to is then one of its schemes (tsubu layouts)")
      ->type_name("FORMAT");
  declare_layout_options(app, o->layout);
  app.add_option("--recipe", o->recipe_file, "Recipe from a file (tsubu recipes NAME prints one), or the manifest of an output: do the same again")
      ->type_name("R.json")
      ->excludes(to);
  app.add_option("--stats", o->stats,
                 "Importance matrix, GGUF or .dat; with Gram matrices (tsubu calibrate --gram): error feedback")
      ->type_name("F");
  app.add_option("--text", o->texts, "Calibration text: error feedback on the model's own activations; repeatable")
      ->type_name("F[:WEIGHT]")
      ->allow_extra_args(false);
  declare_calibration_windows(app, o->corpus);
  app.add_option("--effort", o->effort, "fast: scale search alone; default; best: 262144 tokens, more descent, gradients")
      ->type_name("fast|default|best");
  app.add_option("--refine", o->refine, "Start from this quantized file and improve it in its own types (with --text)")
      ->type_name("FILE.gguf")
      ->excludes(to);
  declare_transform_options(app, o->transform);
  declare_target(app, o->target);
  for (const char* name : {"--size", "--bpw", "--max-kld"})
    for (const char* other : {"--to", "--recipe", "--refine"}) app.get_option(name)->excludes(app.get_option(other));
  CalibratedOptions& c = o->quantize.calibrated;
  app.add_option("--products", o->products,
                 "Products of calibration: f32; bf16 (faster where the machine multiplies it); auto: bf16 for large models")
      ->type_name("auto|f32|bf16");
  app.add_option("--expert-memory", o->expert_memory,
                 "Experts: bytes of Gram matrices at a time (default 4GiB); one expert's that do not fit are left out")
      ->type_name("S");
  app.add_option("--expert-feedback", c.expert_feedback, "")->group("");
  app.add_option("--expert-weights", c.expert_weights, "")->group("");
  app.add_option("--damping", c.damping, "")->type_name("X")->group("");
  app.add_option("--passes", o->passes, "")->group("");
  app.add_option("--asymmetric", c.asymmetric, "")->group("");
  app.add_option("--residual", c.residual, "")->group("");
  app.add_option("--residual-share", c.residual_share, "")->group("");
  app.add_option("--round-embeddings", c.embeddings, "")->group("");
  app.add_option("--embedding-damping", c.embedding_damping, "")->group("");
  app.add_option("--fisher-tokens", o->fisher_tokens, "")->type_name("N")->group("");
  app.add_option("--fisher-rows", c.fisher_rows, "")->group("");
  app.add_option("--fisher-damping", c.fisher_damping, "")->group("");
  app.add_option("--fisher-seed", c.fisher_seed, "")->group("");
  app.add_option("--scale-epochs", o->scale_epochs, "")->group("");
  app.add_option("--scale-rate", o->scales.rate, "")->group("");
  app.add_option("--code-rate", o->scales.code_rate, "")->group("");
  app.add_option("--scale-tokens", o->scales.max_tokens, "")->group("");
  app.add_option("--scale-step", o->scales.tokens_per_step, "")->group("");
  app.add_option("--coupled-sweeps", c.coupled.sweeps, "")->group("");
  app.add_option("--coupled-group", c.coupled.group_rows, "")->check(CLI::Range(1, 1 << 20))->group("");
  app.add_option("--held-out", c.held_out, "")->group("");
  app.add_option("--feedback", c.round.feedback, "")->group("");
  app.add_option("--choose-scales", c.round.choose_scales, "")->group("");
  app.add_flag("--pure", plan.pure, "The recipe's default type for every matrix");
  app.add_option("--tensor-type", o->tensor_types,
                 "Type of the tensors whose name the regular expression matches; repeatable")
      ->type_name("PATTERN=TYPE")
      ->allow_extra_args(false);
  app.add_option("--output-type", plan.output_type, "Type of the head")->type_name("TYPE");
  app.add_option("--embedding-type", plan.embedding_type, "Type of the token embedding")->type_name("TYPE");
  app.add_flag("--keep-output", plan.keep_output, "Leave the head as it is");
  app.add_option("--fallback", plan.fallback, "Type for rows that do not fit the wanted type's block")
      ->type_name("TYPE");
  app.add_flag("--dry-run", o->quantize.dry_run, "Only plan: types, size, estimated time");
  app.add_flag("--no-measure", o->no_measure, "Do not measure the error of each tensor");
  app.add_flag("--no-manifest", o->no_manifest, "Write no OUT.manifest.json (how the output was made)");
  return o;
}

Action declare(CLI::App& app) {
  const std::shared_ptr<Options> o = declare_options(app);
  return [o, &app](const CommonOptions& common) { return run_given(*o, app, common); };
}

}  // namespace

extern const Command kQuantizeCommand;
const Command kQuantizeCommand = {"quantize", "MODEL -o OUT", "Make a model smaller, by a recipe or to a size",
                                  "tsubu quantize model-f16.gguf -o model-q4.gguf --to Q4_K_M\n"
                                  "tsubu quantize hf_directory -o model-6gib.gguf --size 6GiB --text calibration.txt\n"
                                  "tsubu quantize hf_directory -o model-iq4.gguf --to IQ4_XS --text calibration.txt\n"
                                  "tsubu quantize hf_directory -o model-q3.gguf --to Q3_K_M --stats imatrix.gguf\n"
                                  "tsubu quantize hf_directory -o w4a16 --format compressed-tensors --to W4A16 --transform awq --text calibration.txt\n"
                                  "tsubu quantize newer_directory -o newer-q4.gguf --recipe model-q4.gguf.manifest.json\n"
                                  "tsubu quantize hf_directory -o model-w4a16 --format compressed-tensors --to W4A16 "
                                  "--text calibration.txt",
                                  declare};

}  // namespace tsubu
