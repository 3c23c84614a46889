// What the inputs of a model's linears look like, group by group: from text, run through the model block by block so
// that only one block's sums are in memory, or from a statistics file.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "base/threads.h"
#include "calibrate/corpus.h"
#include "calibrate/statistics.h"
#include "model/model.h"
#include "transform/fold.h"

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
  uint64_t n_tokens = 0;
  std::vector<double> mean_abs;      // E|x|; a statistics file does not have it: √E x² stands for it
  std::vector<double> mean_squares;  // E x²
  std::vector<double> max_abs;
  std::vector<float> gram;     // E x xᵀ, (n_cols, n_cols); empty unless needed
  std::vector<float> samples;  // (at most n_samples, n_cols), evenly spread over the text; may be empty
};

// Experts that got fewer have no scales of their own: what few tokens say of channels is chance.
inline constexpr uint64_t kFewestTokens = 64;
// Why experts have none, from this source.
std::string without_scales(const ActivationSource& source);

// Experts whose own inputs are looked at, in the same runs of the text; not of a statistics file, which has too little of them.
struct ExpertVisit {
  std::vector<FoldableExperts> groups;
  uint64_t memory = uint64_t{2} << 30;  // bytes of Gram matrices at a time (one expert's at least); a block is run again for the next
  // Not for experts that no token was routed to.
  std::function<void(const FoldableExperts&, size_t expert, const Activations&)> see;
};

// Calls see(group, activations) for each of the groups, which are of the model's blocks and in graph order. The weights
// of a group's block may be changed in the call, but in that for an expert: the block has been run. Throws Error(kUsage) without a source or
// without Gram matrices or samples where they are needed, Error(kNumeric) when an activation is not finite.
void visit_activations(const Model& model, const std::vector<FoldableGroup>& groups, const ActivationSource& source,
                       const ActivationNeeds& needs, ThreadPool& pool,
                       const std::function<void(const FoldableGroup&, const Activations&)>& see,
                       const ExpertVisit* experts = nullptr);

}  // namespace tsubu
