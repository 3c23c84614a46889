// tsubu plan: which type each tensor should get.
#include <algorithm>
#include <memory>
#include <optional>

#include "base/file.h"
#include "base/progress.h"
#include "base/size.h"
#include "cli/checks.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/table.h"
#include "cli/target_options.h"
#include "hub/model.h"
#include "pipeline/layout_choices.h"

namespace tsubu {
namespace {

struct Options {
  std::string model, stats, output, tensor_types, format = "gguf", config_groups, page, language = "en", effort = "default";
  std::vector<std::string> texts, recipes;
  CorpusOptions corpus;
  TargetChoice target;
  std::string probe = "rows";
  double probe_r = 0.1;
  uint32_t seeds = 1, check = 0;
  uint64_t seed = 1;
};

void write_text(const std::string& path, const std::string& text) {
  AtomicFile file(path);
  file.write(std::as_bytes(std::span(text)));
  file.commit();
}

Recipe recipe_of(const std::string& name) {
  if (!name.ends_with(".json")) return recipe_named(name);
  return recipe_from_json(parse_json(read_text_file(name, uint64_t{1} << 24), name), name);
}

ExitCode run(const Options& o, const CommonOptions& common) {
  const Language language = language_named(o.language);
  const SensitivityMethod method = sensitivity_method(o.target.sensitivities);
  const CalibrationEffort& effort = calibration_effort(o.effort);
  for (const std::string& file : {o.output, o.tensor_types, o.config_groups, o.page, o.target.costs}) check_can_create(file);
  if (!o.target.any() && !(o.output.empty() && o.tensor_types.empty() && o.config_groups.empty()))
    fail(ExitCode::kUsage, "a recipe needs a target: add --size, --bpw or --max-kld");
  const auto model = Model::open(model_path(o.model));
  ThreadPool pool(common.threads);
  CorpusOptions corpus_options = o.corpus;
  for (const std::string& text : o.texts) corpus_options.texts.push_back(parse_corpus_text(text));
  if (corpus_options.max_chunks == 0) corpus_options.max_chunks = effort.chunks(corpus_options.context);
  const SplitText text = split_text(*model, corpus_options, o.target.probes, o.target.held_out);

  QuantizeOptions quantize;
  std::optional<Imatrix> stats;
  if (!o.stats.empty()) stats = Imatrix::load(o.stats);
  quantize.stats = stats ? &*stats : nullptr;
  quantize.stats_path = o.stats;
  quantize.n_threads = common.threads;
  quantize.calibrated.round.descent_passes = effort.descent_passes;
  if (effort.tokens > 0) quantize.corpus = &text.calibration;

  PlannerOptions planner;
  planner.allowed = allowed_types(o.target);
  planner.fused = o.target.fused;
  if (o.format != "gguf") {
    const std::vector<const TypeInfo*> with_schemes = types_with_schemes(o.format);
    if (planner.allowed.empty())
      for (const char* name : {"Q4_0", "Q4_1", "Q8_0", "F16"}) planner.allowed.push_back(&type_named(name));
    for (const TypeInfo* type : planner.allowed)
      if (std::find(with_schemes.begin(), with_schemes.end(), type) == with_schemes.end())
        fail(ExitCode::kUsage, "--allow {}: the type has no equal in {}", type->name, o.format);
    planner.fused = planner.float_tables = true;
  } else if (!o.config_groups.empty()) {
    fail(ExitCode::kUsage, "--config-groups {}: add --format compressed-tensors", o.config_groups);
  }
  planner.measure = measure_options(o.target);
  planner.method = method;
  planner.costs_path = o.target.costs;
  planner.calibrated = effort.tokens > 0;
  planner.sensitivity.probe = parse_perturbation(o.probe);
  planner.sensitivity.r = o.probe_r;
  planner.sensitivity.n_seeds = o.seeds;
  std::vector<Recipe> compared;
  for (const std::string& name : o.recipes) compared.push_back(recipe_of(name));
  if (o.recipes.empty() && o.target.allow.empty())
    for (const char* name : {"Q2_K", "Q3_K_M", "IQ4_XS", "Q4_K_M", "Q5_K_M", "Q6_K"}) compared.push_back(recipe_named(name));
  PlanOptions with_stats;
  with_stats.has_stats = true;
  for (const Recipe& recipe : compared)
    for (const PlannedTensor& t : assign_types(*model, recipe, with_stats))
      if (t.tensor->spec().quantizable) planner.known.push_back(t.type);

  const PlanTarget target = make_target(o.target, *model, quantize);
  PlanCosts costs = plan_costs(*model, text.probes, quantize, planner, pool);
  std::optional<Plan> plan;
  Refinement refinement;
  if (o.target.any()) plan = refine_plan(*model, text.probes, quantize, planner, target, costs, pool, &refinement);
  const std::vector<Plan> front = plan_front(costs, planner);
  std::optional<Recipe> recipe;
  if (plan) recipe = plan_recipe(costs, *plan, "plan");
  if (recipe && quantized_bytes(*model, *recipe, quantize) != plan->size_bytes)
    fail(ExitCode::kBadInput, "{}: the plan's size {} is not the file's {}", model->path(), plan->size_bytes,
         quantized_bytes(*model, *recipe, quantize));
  if (!o.output.empty()) write_text(o.output, dump_json(to_json(*recipe)));
  if (!o.tensor_types.empty()) write_text(o.tensor_types, tensor_type_file(costs, *plan));
  if (!o.config_groups.empty())
    write_text(o.config_groups, dump_json(choices_config(*model, choices_of_recipe(*model, *recipe, {}, o.format), "bfloat16")));
  std::vector<FitCandidate> stock;
  for (const Recipe& r : compared) {
    FitCandidate c;
    c.name = r.name;
    c.size_bytes = quantized_bytes(*model, r, [&] {
      QuantizeOptions q = quantize;
      q.plan.pure = false;
      if (r.needs_stats && !q.stats && !q.corpus) q.corpus = &text.calibration;
      return q;
    }());
    c.predicted = costs.predict(recipe_types(*model, costs, r, quantize.plan));
    stock.push_back(c);
  }
  if (!o.page.empty()) {
    std::vector<NamedPrediction> others;
    for (const FitCandidate& c : stock)
      others.push_back({c.name, 8.0 * static_cast<double>(c.size_bytes - costs.metadata_bytes) / static_cast<double>(costs.n_weights), c.predicted});
    write_text(o.page, plan_page(o.model, costs, front, others, plan ? &*plan : nullptr, Words(language)));
  }
  std::optional<PlanCheck> check;
  if (o.check > 0) check = check_plan(*model, costs, o.check, o.seed, quantize.stats, text.held_out, pool);

  if (common.json) {
    Json json;
    json["model"] = o.model;
    if (plan) {
      json.update(to_json(*plan, costs));
      json["recipe"] = to_json(*recipe);
      json["refinement"] = to_json(refinement);
    }
    json["front"] = Json::array();
    for (const Plan& p : front) {
      Json item = to_json(p, costs);
      item.erase("types");
      item.erase("is_optimal");
      json["front"].push_back(std::move(item));
    }
    json["recipes"] = Json::array();
    for (const FitCandidate& c : stock)
      json["recipes"].push_back({{"name", c.name},
                                 {"size_bytes", c.size_bytes},
                                 {"predicted", {{"mean", c.predicted.mean}, {"ci95", {c.predicted.low, c.predicted.high}}}}});
    json["costs"] = to_json(costs);
    if (check) {
      json["check"] = {{"spearman", check->spearman}, {"share_covered", check->share_covered}, {"recipes", Json::array()}};
      for (const FitCandidate& c : check->recipes) json["check"]["recipes"].push_back(to_json(c));
    }
    print_json(json);
    return ExitCode::kDone;
  }
  print_out(front_text(front, costs));
  if (!stock.empty()) {
    Table table({"recipe", ">size", ">predicted divergence"});
    for (const FitCandidate& c : stock)
      table.add({c.name, format_size(c.size_bytes),
                 fmt::format("{:.3g} [{:.3g}, {:.3g}]", c.predicted.mean, c.predicted.low, c.predicted.high)});
    print_out("\nOther recipes\n" + table.text(2));
  }
  if (check) {
    print_out("\nRandom recipes, rounded by search\n" + candidates_text(check->recipes));
    print_out(fmt::format("rank correlation of predicted and measured {:.3f}; {:.0f} % of the intervals hold the measured one\n",
                          check->spearman, 100 * check->share_covered));
  }
  if (plan) print_out("\nThe plan\n" + plan_text(costs, *plan, front, planner) + refinement_text(refinement, costs));
  if (plan && o.target.max_kld > 0)
    print_out(fmt::format("{:g} is kept by prediction: tsubu quantize --max-kld {:g} measures, and plans again where it is not\n", o.target.max_kld,
                          o.target.max_kld));
  if (!o.output.empty()) print_out(fmt::format("{}: a recipe for tsubu quantize --recipe, with the same --text and --stats\n", o.output));
  print_out(fmt::format("{} tensors {} on {} scored tokens of {} windows in {}, with errors and recipes in {}; rounding: {}\n",
                        costs.tensors.size(), costs.method == SensitivityMethod::kProbes ? "probed" : "by gradients",
                        costs.n_tokens_scored, text.probes.chunks.size(), format_duration(costs.sensitivity_seconds),
                        format_duration(costs.seconds),
                        planner.calibrated ? "with calibration text" : "search"));
  return ExitCode::kDone;
}

Action declare(CLI::App& app) {
  auto o = std::make_shared<Options>();
  app.add_option("MODEL", o->model, "GGUF file, Hugging Face directory or org/name of the hub")->required()->type_name(" ");
  app.add_option("--text", o->texts, "Text to measure on, the one that rounding will use; repeatable")
      ->required()
      ->type_name("F[:WEIGHT]")
      ->allow_extra_args(false);
  declare_target(app, o->target);
  app.add_option("-o,--output", o->output, "Recipe to write, for tsubu quantize --recipe")->type_name("R.json");
  app.add_option("--tensor-type-file", o->tensor_types, "The same for llama.cpp's option of that name")->type_name("F");
  app.add_option("--format", o->format,
                 "compressed-tensors: types that have an equal there (Q4_0, Q4_1, Q8_0, F16; also MXFP4, NVFP4), one for linears "
                 "that runtimes fuse, embeddings and head float; the recipe is then for quantize --format (default gguf)")
      ->type_name("FORMAT");
  app.add_option("--config-groups", o->config_groups, "The quantization_config of that plan, as JSON")->type_name("F.json");
  app.add_option("--page", o->page, "The same as a page with figures (one self-contained HTML file)")->type_name("OUT.html");
  app.add_option("--lang", o->language, "Of the page: en or ja (default en)")->type_name("L");
  app.add_option("--recipe", o->recipes, "Predict this recipe too (name or JSON file); repeatable")
      ->type_name("R")
      ->allow_extra_args(false);
  app.add_option("--stats", o->stats, "Importance matrix that the rounding will use")->type_name("F");
  app.add_option("--effort", o->effort, "Of the rounding that will follow; fast: search alone")->type_name("fast|default|best");
  app.add_option("--ctx", o->corpus.context, "Tokens of a window (default 512)")->check(CLI::Range(8, 1 << 20))->type_name("N");
  app.add_option("--chunks", o->corpus.max_chunks, "Calibration windows at most, as in quantize")
      ->check(CLI::Range(1, 1 << 30))
      ->type_name("N");
  app.add_option("--check", o->check, "Round and measure so many random recipes, to see how good predictions are")
      ->check(CLI::Range(2, 10000))
      ->type_name("N");
  app.add_option("--seed", o->seed, "Of the random recipes (default 1)")->type_name("N");
  app.add_option("--probe", o->probe, "")->group("");
  app.add_option("--probe-r", o->probe_r, "")->group("");
  app.add_option("--probe-seeds", o->seeds, "")->group("");
  return [o](const CommonOptions& common) { return run(*o, common); };
}

}  // namespace

extern const Command kPlanCommand;
const Command kPlanCommand = {"plan", "MODEL --text F", "Which type each tensor should get, for a size or a divergence",
                              "tsubu plan model-f16.gguf --text calibration.txt --size 6GiB -o recipe.json\n"
                              "tsubu plan model-f16.gguf --text calibration.txt --bpw 4.5 --allow Q3_K,Q4_K,Q5_K,Q6_K\n"
                              "tsubu plan model-f16.gguf --text calibration.txt --max-kld 0.02\n"
                              "tsubu plan model/ --text calibration.txt --format compressed-tensors --bpw 6 -o recipe.json", declare};

}  // namespace tsubu
