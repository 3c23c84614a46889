#include "pipeline/gradient_file.h"

#include <cmath>

#include "base/error.h"
#include "base/file.h"
#include "base/progress.h"
#include "container/safetensors.h"
#include "gradient/loss.h"
#include "gradient/weight_gradients.h"

namespace tsubu {
namespace {

double norm_of(std::span<const float> values) {
  double sum = 0;
  for (float v : values) sum += static_cast<double>(v) * static_cast<double>(v);
  return std::sqrt(sum);
}

void write(const std::string& output, const WeightGradients& gradients, const Model& model, float scale) {
  SafetensorsWriter writer(output);
  for (const auto& [name, sum] : gradients.all()) writer.declare(name, SafeDtype::kF32, model.tensor(name).spec().shape);
  std::vector<float> mean;
  for (const std::string& name : writer.begin_data()) {
    const auto& sum = gradients.all().at(name);
    mean.assign(sum.begin(), sum.end());
    for (float& v : mean) v *= scale;
    writer.write(std::as_bytes(std::span(mean)));
  }
  writer.commit();
}

}  // namespace

GradientResult write_gradients(const Model& model, const Corpus& corpus, const std::string& output, ThreadPool& pool) {
  for (const std::string& file : model.files())
    if (!output.empty() && same_file(file, output))
      fail(ExitCode::kUsage, "{}: the output is the model itself", output);
  Backward backward(model, pool);
  WeightGradients gradients(model, pool);
  const size_t n_vocab = backward.n_vocab();
  GradientResult result;
  Progress progress("gradient", corpus.n_tokens(), "tokens");
  for (const std::vector<TokenId>& tokens : corpus.chunks) {
    std::vector<TokenId> targets(tokens.begin() + 1, tokens.end());
    targets.push_back(-1);
    result.loss += backward.run(
        tokens, 0,
        [&](size_t first, size_t n, float* logits) {
          return cross_entropy(std::span(targets).subspan(first, n), 1, logits, n_vocab, pool);
        },
        gradients);
    result.n_tokens += tokens.size() - 1;
    if (!std::isfinite(result.loss))
      fail(ExitCode::kNumeric, "{}: the loss is not finite: the model is damaged, or its activations overflow",
           model.path());
    progress.advance(tokens.size());
  }
  progress.finish();
  result.seconds = progress.seconds();
  result.tokens_per_second = static_cast<double>(corpus.n_tokens()) / result.seconds;
  result.scratch_bytes = backward.scratch_bytes();
  const double per_token = 1.0 / static_cast<double>(result.n_tokens);
  result.loss *= per_token;
  for (const ModelTensor& tensor : model.tensors()) {  // in the model's order
    const auto found = gradients.all().find(tensor.name());
    if (found == gradients.all().end()) continue;
    WeightGradient w;
    w.name = tensor.name();
    w.shape = tensor.spec().shape;
    w.norm = norm_of(found->second) * per_token;
    std::vector<float> row(tensor.n_cols());
    for (uint64_t r = 0; r < tensor.n_rows(); ++r) {
      tensor.read_rows(r, 1, row.data());
      const double norm = norm_of(row);
      w.weight_norm += norm * norm;
    }
    w.weight_norm = std::sqrt(w.weight_norm);
    result.weights.push_back(std::move(w));
  }
  if (output.empty()) return result;
  write(output, gradients, model, static_cast<float>(per_token));
  result.size_bytes = MappedFile(output).bytes().size();
  return result;
}

Json to_json(const GradientResult& r) {
  Json json = {{"loss", r.loss},
               {"tokens", r.n_tokens},
               {"size_bytes", r.size_bytes},
               {"scratch_bytes", r.scratch_bytes},
               {"seconds", r.seconds},
               {"tokens_per_second", r.tokens_per_second}};
  json["weights"] = Json::array();
  for (const WeightGradient& w : r.weights)
    json["weights"].push_back(Json{{"name", w.name}, {"shape", w.shape}, {"norm", w.norm}, {"weight_norm", w.weight_norm}});
  return json;
}

}  // namespace tsubu
