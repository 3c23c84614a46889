// The options by which commands compute a float model in other numbers: schemes of weights and activations, types of
// the cache, outlier columns.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/threads.h"
#include "engine/numerics.h"
#include "model/model.h"

namespace tsubu {

struct NumericsChoice {
  std::string preset, weights, activations, cache;
  float outliers = 0;
  bool with_head = false, float_products = false;
  std::vector<std::string> calibration_texts;
  double percentile = 100;
  uint32_t calibration_chunks = 64;
};

void declare_numerics(CLI::App& app, NumericsChoice& choice);
// Reads the schemes and, for static scales, runs the model over the calibration texts in chunks of `context` tokens.
// Throws Error(kUsage).
Numerics make_numerics(const NumericsChoice& choice, const Model& model, uint32_t context, ThreadPool& pool);
// {"weights", "activations", "keys", "values", …}: what is not plain f32.
Json to_json(const Numerics& numerics);

}  // namespace tsubu
