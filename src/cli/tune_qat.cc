#include "cli/tune_qat.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/size.h"
#include "cli/output.h"
#include "cli/quantize_report.h"
#include "cli/table.h"
#include "hub/model.h"
#include "pipeline/quantize_trained.h"

namespace tsubu {
namespace {

TrainingLoss loss_named(const std::string& name) {
  if (name == "kl") return TrainingLoss::kDivergence;
  if (name == "ce") return TrainingLoss::kCrossEntropy;
  fail(ExitCode::kUsage, "--loss {}: expected kl (to the float model) or ce (of the text)", name);
}

std::string prediction_text(const QatEstimate& e) {
  return fmt::format("predicted: {} steps, {} tokens, {} weights: {}, {} of memory, checkpoints of {}\n", e.n_steps, e.n_tokens,
                     e.n_weights, format_duration(e.seconds), format_size(e.memory_bytes), format_size(e.checkpoint_bytes));
}

std::string curve_text(const QatResult& r) {
  Table table({">step", ">tokens", ">trained on", ">held out: divergence", ">cross entropy"});
  for (size_t i = 0; i < r.curve.size(); ++i) {
    const QatPoint& p = r.curve[i];
    table.add({std::to_string(p.step), std::to_string(p.tokens), p.step > 0 ? fmt::format("{:.5g}", p.loss) : "-",
               fmt::format("{:.5g}", p.divergence), fmt::format("{:.5g}{}", p.cross_entropy, i == r.best ? "  written" : "")});
  }
  const auto percent = [&](const char* what) { return r.shares.contains(what) ? 100 * r.shares.at(what) : 0.0; };
  return table.text() +
         fmt::format("on {} held-out tokens; the float model's cross entropy there: {:.5g}\n", r.n_judged, r.float_cross_entropy) +
         fmt::format("{} steps in {}: {:.4g} tokens/s (of the time: float model {:.0f} %, both passes and gradients {:.0f} %, encoding "
                     "{:.0f} %, optimizer {:.0f} %, judging {:.0f} %)\n",
                     r.n_steps - r.first_step, format_duration(r.seconds), r.tokens_per_second, percent("float model"),
                     percent("passes") - percent("float model"), percent("encoding"), percent("optimizer"), percent("judging"));
}

}  // namespace

ExitCode run_tune_qat(const TuneOptions& o, const TuneQatOptions& own, const CommonOptions& common) {
  return_large_buffers();
  QuantizeTrainedOptions options;
  options.quantize.output = o.output;
  options.quantize.n_threads = common.threads;
  options.quantize.dry_run = o.dry_run;
  PlanOptions& plan = options.quantize.plan;
  plan.pure = own.pure;
  plan.output_type = own.output_type;
  plan.embedding_type = own.embedding_type;
  for (const std::string& text : own.tensor_types) plan.overrides.push_back(parse_type_override(text));
  for (const std::string* type : {&plan.output_type, &plan.embedding_type})
    if (!type->empty()) type_named(*type);
  options.frozen = own.frozen;
  options.with_checkpoint = !o.no_checkpoint;
  QatOptions& qat = options.qat;
  qat.loss = loss_named(own.loss);
  if (o.rate > 0) qat.rate = o.rate;
  if (o.tokens_per_step > 0) qat.tokens_per_step = o.tokens_per_step;
  qat.schedule = {o.warm_up, o.floor};
  qat.adam.weight_decay = static_cast<float>(o.weight_decay);
  qat.adam.states_8bit = !o.f32_states;
  if (own.products != "f32" && own.products != "bf16") fail(ExitCode::kUsage, "--products {}: expected f32 or bf16", own.products);
  qat.bf16_products = own.products == "bf16";
  qat.n_tokens = o.n_tokens;
  qat.held_out = o.held_out;
  qat.judged_tokens = o.judged_tokens;
  if (!own.activations.empty()) qat.activations = parse_scheme(own.activations, SchemeUse::kActivations);
  qat.n_evaluations = o.n_evaluations;
  qat.seed = o.seed;

  const Recipe recipe = recipe_named(own.to);
  const auto model = Model::open(model_path(o.model));
  const auto start = own.start.empty() ? nullptr : Model::open(model_path(own.start));
  options.start = start.get();
  CorpusOptions corpus_options = o.corpus;
  for (const std::string& text : o.texts) corpus_options.texts.push_back(parse_corpus_text(text));
  const Corpus corpus = read_corpus(*model, corpus_options);
  const QuantizeTrainedResult result = quantize_trained(*model, recipe, corpus, options);
  Json json = to_json(result.quantized);
  json["predicted"] = to_json(result.predicted);
  if (!o.dry_run) json["training"] = to_json(result.training);
  if (!o.dry_run && !o.no_manifest) {
    Json manifest = manifest_json("tune", o.given, *model, result.quantized, o.output);
    manifest["curve"] = json["training"]["curve"];
    write_text_file(manifest_path(o.output), dump_json(manifest));
  }
  if (common.json) {
    json["model"] = o.model;
    json["output"] = o.output;
    print_json(json);
    return ExitCode::kDone;
  }
  print_out(quantize_report(result.quantized, o.output, o.dry_run));
  print_out(o.dry_run ? prediction_text(result.predicted) : "\n" + curve_text(result.training));
  return ExitCode::kDone;
}

void declare_tune_qat(CLI::App& app, TuneQatOptions& o) {
  app.add_option("--qat", o.to, "Train the weights in this type, or in a recipe's types: what is written is what was trained")
      ->type_name("TYPE|RECIPE");
  app.add_option("--loss", o.loss, "kl: divergence from the float model (default); ce: cross entropy of the text")
      ->type_name("kl|ce");
  app.add_option("--start", o.start, "Start from the weights of this quantized file instead of the model's")->type_name("FILE.gguf");
  app.add_option("--acts", o.activations, "Round the inputs of the blocks' linears too, as eval --acts does: int8:token")
      ->type_name("SCHEME");
  app.add_option("--products", o.products,
                 "f32: the same bytes on every machine (default); bf16: faster where the machine multiplies it; judged in f32 either way")
      ->type_name("f32|bf16");
  app.add_option("--freeze", o.frozen, "Round the tensors whose name the regular expression matches, train the others; repeatable")
      ->type_name("PATTERN")
      ->allow_extra_args(false);
  app.add_flag("--pure", o.pure, "The recipe's default type for every matrix");
  app.add_option("--tensor-type", o.tensor_types, "Type of the tensors whose name the regular expression matches; repeatable")
      ->type_name("PATTERN=TYPE")
      ->allow_extra_args(false);
  app.add_option("--output-type", o.output_type, "Type of the head")->type_name("TYPE");
  app.add_option("--embedding-type", o.embedding_type, "Type of the token embedding")->type_name("TYPE");
}

}  // namespace tsubu
