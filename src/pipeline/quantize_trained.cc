#include "pipeline/quantize_trained.h"

#include <filesystem>
#include <regex>

#include "base/error.h"
#include "base/progress.h"
#include "base/size.h"
#include "kernel/kernels.h"

namespace tsubu {
namespace {

std::vector<std::regex> patterns_of(const std::vector<std::string>& texts) {
  std::vector<std::regex> patterns;
  for (const std::string& text : texts) {
    try {
      patterns.emplace_back(text);
    } catch (const std::regex_error& e) {
      fail(ExitCode::kUsage, "--freeze {}: not a regular expression: {}", text, e.what());
    }
  }
  return patterns;
}

Json training_json(const QatOptions& o, const Corpus& corpus, const QatEstimate& size, const std::vector<std::string>& frozen) {
  Json json{{"method", "qat"},
            {"loss", o.loss == TrainingLoss::kDivergence ? "kl" : "ce"},
            {"text", corpus.hash},
            {"context", corpus.context},
            {"steps", size.n_steps},
            {"tokens", size.n_tokens},
            {"rate", o.rate},
            {"warm_up", o.schedule.warm_up},
            {"floor", o.schedule.floor},
            {"adam", {{"first_decay", o.adam.first_decay}, {"second_decay", o.adam.second_decay}, {"epsilon", o.adam.epsilon},
                      {"weight_decay", o.adam.weight_decay}, {"states", o.adam.states_8bit ? "8bit" : "f32"}}},
            {"held_out", o.held_out},
            {"judged_tokens", o.judged_tokens},
            {"evaluations", o.n_evaluations},
            {"seed", o.seed}};
  json["products"] = o.bf16_products ? fmt::format("bf16 {}", kernels().isa) : "f32";
  if (o.activations) json["activations"] = o.activations->name();
  if (!frozen.empty()) json["frozen"] = frozen;
  return json;
}

// Files, their sizes and when they were written.
std::string key_of(const Model& model) {
  std::string key = std::filesystem::absolute(model.path()).string();
  for (const std::string& file : model.files()) {
    const auto written = std::filesystem::last_write_time(file).time_since_epoch().count();
    key += fmt::format(" {}:{}:{}", file, std::filesystem::file_size(file), written);
  }
  return key;
}

}  // namespace

std::string checkpoint_path(const std::string& output) { return output + ".tsubu-checkpoint"; }

QuantizeTrainedResult quantize_trained(const Model& model, const Recipe& recipe, const Corpus& corpus,
                                       const QuantizeTrainedOptions& given) {
  QuantizeTrainedOptions options = given;
  const std::string& output = options.quantize.output;
  check_output(model, output);
  PlanOptions plan = options.quantize.plan;
  plan.has_stats = true;  // as of text
  const std::vector<std::regex> frozen = patterns_of(options.frozen);
  std::map<std::string, QatTensor> tensors;
  for (const PlannedTensor& p : assign_types(model, recipe, plan)) {
    QatTensor& q = tensors[p.tensor->name()];
    q.type = p.type;
    for (const std::regex& pattern : frozen) q.is_frozen |= std::regex_search(p.tensor->name(), pattern);
  }
  QatOptions& qat = options.qat;
  qat.start = options.start;
  qat.key = key_of(model) + (options.start ? " start " + key_of(*options.start) : "");
  if (options.with_checkpoint) qat.checkpoint = checkpoint_path(output);
  TrainedTensors trained;
  QuantizeTrainedResult result;
  options.quantize.trained = &trained;
  std::vector<InputFile> inputs = model_inputs(model);
  for (const CorpusSource& source : corpus.sources) inputs.push_back({"text", source.path, 0, ""});
  if (options.start)
    for (InputFile& file : model_inputs(*options.start, "start")) inputs.push_back(std::move(file));
  {
    ThreadPool pool(options.quantize.n_threads);
    Qat training(model, tensors, corpus, qat, pool);
    result.predicted = training.estimate();
    if (!options.quantize.dry_run) {
      options.quantize.inputs = std::make_shared<InputDigests>(std::move(inputs));
      note(fmt::format("{} steps of {} tokens, {} weights: predicted {} and {} of memory; checkpoints of {}",
                       result.predicted.n_steps, result.predicted.n_tokens / result.predicted.n_steps, result.predicted.n_weights,
                       format_duration(result.predicted.seconds), format_size(result.predicted.memory_bytes),
                       format_size(result.predicted.checkpoint_bytes)));
      result.training = training.run();
    }
  }
  trained.method = "qat";
  trained.tensors = std::move(result.training.tensors);
  result.training.tensors.clear();
  trained.treatment = training_json(qat, corpus, result.predicted, options.frozen);
  result.quantized = quantize(model, recipe, options.quantize);
  if (!qat.checkpoint.empty() && !options.quantize.dry_run) {
    std::error_code ignored;
    std::filesystem::remove(qat.checkpoint, ignored);
  }
  return result;
}

}  // namespace tsubu
