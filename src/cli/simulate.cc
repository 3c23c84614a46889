// tsubu simulate: what a format that is no GGUF type would do to a model, as a float GGUF.
#include "pipeline/simulate.h"

#include <filesystem>
#include <memory>
#include <optional>

#include "base/file.h"
#include "base/progress.h"
#include "base/size.h"
#include "cli/checks.h"
#include "cli/command.h"
#include "cli/effort.h"
#include "cli/manifest_options.h"
#include "cli/output.h"
#include "cli/table.h"
#include "cli/transform_options.h"
#include "hub/model.h"
#include "pipeline/text_statistics.h"
#include "round/methods.h"

namespace tsubu {
namespace {

struct Options {
  std::string model, format, method = "search", stats;
  std::vector<std::string> texts;
  CorpusOptions corpus;
  TransformChoice transform;
  int passes = 8;
  bool no_manifest = false;
  SimulateOptions simulate;
};

std::string percent(double share) { return share < 0 ? "-" : fmt::format("{:.4f} %", 100 * share); }

void print_result(const SimulateResult& r, const Options& o, const SimFormat& format) {
  Table table({"tensor", ">shape", ">bits per weight", ">weight error", ">output error"});
  for (const SimulatedTensor& t : r.tensors)
    table.add({t.name, format_shape(t.shape), fmt::format("{:.4f}", t.bits_per_weight), percent(t.rel_rmse),
               percent(t.rel_output)});
  table.add({"all", format_count(r.n_weights), fmt::format("{:.4f}", r.bits_per_weight), percent(r.rel_rmse),
             percent(r.rel_output)});
  print_out(table.text());
  print_out(fmt::format("{} by {}: {}, {} as {}, in {}\n", format.name(), o.method, o.simulate.output,
                        format_size(r.size_bytes), o.simulate.type, format_duration(r.seconds)));
  for (const std::string& text : r.notes) note(text);
}

void write_manifest(const Options& o, const Json& given, const Model& model, const TransformedModel& transformed,
                    const SimulateResult& result) {
  std::vector<InputFile> files = model_inputs(model);
  for (const std::string& text : o.texts) files.push_back({"text", parse_corpus_text(text).path, 0, ""});
  if (!o.stats.empty()) files.push_back({"statistics", o.stats, 0, ""});
  InputDigests digests(std::move(files));
  const std::filesystem::path output(o.simulate.output), source(model.path());
  Json manifest = manifest_json("simulate", given, source.filename().string(), digests.wait(),
                                output.has_parent_path() ? output.parent_path().string() : ".", {output.filename().string()});
  const Json json = to_json(result);
  manifest["treatment"] = {{"format", SimFormat::parse(o.format).name()}, {"method", o.method}, {"passes", o.passes},
                           {"damping", o.simulate.damping}, {"all", o.simulate.all}, {"type", o.simulate.type}};
  if (transformed.model) {
    manifest["treatment"]["transform"] = transformed.treatment;
    manifest["transforms"] = to_json(transformed.reports);
  }
  manifest["treatment_sha256"] = treatment_digest(manifest["treatment"]);
  manifest["bits_per_weight"] = json.at("bits_per_weight");
  manifest["tensors"] = json.at("tensors");
  write_text_file(manifest_path(o.simulate.output), dump_json(manifest));
}

ExitCode run(const Options& o, const Json& given, const CommonOptions& common) {
  SimulateOptions options = o.simulate;
  options.format = SimFormat::parse(o.format);
  options.method = parse_sim_method(o.method, o.passes);
  options.n_threads = common.threads;
  if (const auto reason = refusal(options.format, options.method); !reason.empty())  // before the text is read
    fail(ExitCode::kUnsupported, "format {}: {}", options.format.name(), reason);
  const TransformRequest request = transform_request(o.transform);
  if (request.any() && !o.stats.empty())
    fail(ExitCode::kUsage, "--stats {}: statistics of the model as it is do not describe it after --transform: give --text", o.stats);
  const auto model = Model::open(model_path(o.model));
  CorpusOptions corpus_options = o.corpus;
  for (const std::string& text : o.texts) corpus_options.texts.push_back(parse_corpus_text(text));
  if (corpus_options.max_chunks == 0) corpus_options.max_chunks = calibration_effort("default").chunks(corpus_options.context);
  TransformedModel transformed;
  if (request.any()) {
    std::optional<Corpus> corpus;
    if (!o.texts.empty()) corpus = read_corpus(*model, corpus_options);
    const AwqOptions awq = awq_for_formats([&](const std::string&) { return &options.format; }, corpus.has_value());
    ThreadPool pool(common.threads);
    transformed = transform_for_rounding(*model, request, corpus ? &*corpus : nullptr, awq, options.output, false, pool);
  }
  const Model& rounded = transformed.model ? *transformed.model : *model;
  std::optional<Statistics> stats;
  std::optional<TextStatistics> of_text;
  if (!o.stats.empty()) stats = Statistics::open(o.stats);
  if (!o.texts.empty()) of_text.emplace(rounded, corpus_options, options.output, transformed.treatment, true, common.threads);
  options.stats = stats ? &*stats : of_text ? &of_text->statistics() : nullptr;
  SimulateResult result = simulate(rounded, options);
  result.notes.insert(result.notes.begin(), transformed.notes.begin(), transformed.notes.end());
  if (of_text) of_text->remove();
  if (!o.no_manifest) write_manifest(o, given, *model, transformed, result);
  if (common.json) {
    Json json = to_json(result);
    json["model"] = o.model;
    json["output"] = options.output;
    json["format"] = options.format.name();
    json["method"] = o.method;
    if (transformed.model) json["transforms"] = to_json(transformed.reports);
    print_json(json);
  } else {
    for (const TransformReport& report : transformed.reports) print_out(transform_text(report));
    print_result(result, o, options.format);
  }
  return ExitCode::kDone;
}

Action declare(CLI::App& app) {
  auto o = std::make_shared<Options>();
  app.add_option("MODEL", o->model, "GGUF file, Hugging Face directory or org/name of the hub")->required()->type_name(" ");
  app.add_option("--format", o->format, "Such as int4:group=128 (tsubu methods lists them)")
      ->required()
      ->type_name("SPEC");
  app.add_option("--method", o->method, "Rounding method, also METHOD+refine (default search)")->type_name("METHOD");
  auto* stats = app.add_option("--stats", o->stats, "Statistics from tsubu calibrate, with --gram for gptq and refine")->type_name("S.gguf");
  app.add_option("--text", o->texts, "Text to make them from, F or F:WEIGHT; repeatable")
      ->type_name("F[:WEIGHT]")
      ->allow_extra_args(false)
      ->excludes(stats);
  declare_calibration_windows(app, o->corpus);
  declare_transform_options(app, o->transform);
  app.add_option("-o,--output", o->simulate.output, "GGUF file to write: the values as floats")
      ->required()
      ->type_name("OUT");
  app.add_option("--dtype", o->simulate.type, "F32 (default) or F16")->type_name("TYPE");
  app.add_option("--damping", o->simulate.damping,
                 "Added to the Gram matrix, share of its mean diagonal (default 0.01)")
      ->check(number_between(0, 1e6))
      ->type_name("X");
  app.add_option("--passes", o->passes, "Passes of the descent (default 8)")
      ->check(CLI::Range(1, 1000))
      ->type_name("N");
  app.add_flag("--all", o->simulate.all, "The head and the token embedding too");
  app.add_flag("--no-manifest", o->no_manifest, "Write no manifest (how the output was made)");
  return [o, &app](const CommonOptions& common) { return run(*o, given_options(app), common); };
}

}  // namespace

extern const Command kSimulateCommand;
const Command kSimulateCommand = {
    "simulate", "MODEL --format SPEC -o OUT", "Round to a format that is no GGUF type, for eval",
    "tsubu simulate model-f16.gguf --format int4:group=128 --method gptq+refine --stats s.gguf "
    "-o int4.gguf\n"
    "tsubu simulate model-f16.gguf --format int4:channel --method gptq --transform rotate --text calibration.txt -o rotated.gguf\n"
    "tsubu eval int4.gguf --ref model-f16.gguf --text heldout.txt",
    declare};

}  // namespace tsubu
