// The gradient of a model's loss on a text, as a file: one F32 tensor for each weight, under its GGUF name and in GGUF's
// row order, safetensors. The loss is the mean of -ln p(next token) over all positions of all windows.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "base/threads.h"
#include "calibrate/corpus.h"
#include "model/model.h"

namespace tsubu {

struct WeightGradient {
  std::string name;
  std::vector<uint64_t> shape;
  double norm = 0, weight_norm = 0;  // Euclidean
};

struct GradientResult {
  double loss = 0;  // nats a token
  uint64_t n_tokens = 0, size_bytes = 0, scratch_bytes = 0;
  double seconds = 0, tokens_per_second = 0;  // of the passes
  std::vector<WeightGradient> weights;
};

// output: empty for none. Throws Error(kNumeric) when the loss is not finite.
GradientResult write_gradients(const Model& model, const Corpus& corpus, const std::string& output, ThreadPool& pool);
Json to_json(const GradientResult& result);

}  // namespace tsubu
