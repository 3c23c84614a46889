// Rounding with calibration text: the model's blocks in order, each linear against the Gram matrix of the input that the
// quantized model itself produces there, towards what the float model would have produced (see calibrated.cc). Holds the
// activations of all calibration tokens at one place of the graph, for both models, and the Gram matrices of one input.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "calibrate/corpus.h"
#include "model/model.h"
#include "plan/recipe.h"
#include "round/round.h"

namespace tsubu {

struct CalibratedOptions {
  RoundOptions round;
  double damping = 0.01;     // share of the Gram matrix' mean diagonal
  bool asymmetric = true;    // the target is the float model's output on the float model's input
  bool residual = true;      // linears that add to the residual stream make up for its error so far as well
  double residual_share = 1; // how much of it
  bool embeddings = true;    // token embeddings with feedback against the stream's metric (stream_metric.h)
  double embedding_damping = 0.1;
  double held_out = 0.125;   // share of the chunks that only judge
};

struct CalibratedTensor {
  std::vector<std::byte> bytes;  // encoded rows
  std::string method;            // "gptq+descent", "search"
  // Squared output error per token on the held-out chunks, against that of the float weights on the same inputs, and the
  // same of plain search (both 0: not measured). Negative: nearer to the float model than the float weights here.
  double error = 0, search_error = 0;
};

// Encoded rows for every matrix of the plan that error feedback can round (linears with a quantized type that has a grid).
// The rest of the plan is rounded as usual by whoever writes the file. notes: what was left to plain search, and why.
std::map<std::string, CalibratedTensor> round_calibrated(const Model& model, const std::vector<PlannedTensor>& plan,
                                                         const Corpus& corpus, const CalibratedOptions& options,
                                                         ThreadPool& pool, std::vector<std::string>& notes);

}  // namespace tsubu
