// What the inputs of a model's linears look like, group by group: from text, run through the model block by block so
// that only one block's sums are in memory, or from a statistics file.
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "base/threads.h"
#include "calibrate/corpus.h"
#include "calibrate/statistics.h"
#include "model/model.h"

namespace tsubu {

// Where activations come from: one of the two.
struct ActivationSource {
  const Corpus* corpus = nullptr;
  const Statistics* statistics = nullptr;  // of the very model that is looked at, made with --gram
};

struct ActivationNeeds {
  bool gram = false;
  size_t n_samples = 0;  // tokens whose activations are kept as they are; only text has them
};

struct Activations {
  size_t n_cols = 0;
  std::vector<double> mean_abs;      // E|x|; a statistics file does not have it: √E x² stands for it
  std::vector<double> mean_squares;  // E x²
  std::vector<double> max_abs;
  std::vector<float> gram;     // E x xᵀ, (n_cols, n_cols); empty unless needed
  std::vector<float> samples;  // (at most n_samples, n_cols), evenly spread over the text; may be empty
};

// Calls see(group, activations) for each of the groups, which are of the model's blocks and in graph order. The weights
// of a group's block may be changed in the call: the block has been run. Throws Error(kUsage) without a source or
// without Gram matrices or samples where they are needed, Error(kNumeric) when an activation is not finite.
void visit_activations(const Model& model, const std::vector<LinearGroup>& groups, const ActivationSource& source,
                       const ActivationNeeds& needs, ThreadPool& pool,
                       const std::function<void(const LinearGroup&, const Activations&)>& see);

}  // namespace tsubu
