// Rounding with calibration text: the model's blocks in order, each linear against the Gram matrix of the input that
// the quantized model itself produces there, towards what the float model would have produced (see calibrated.cc).
// Holds the activations of all calibration tokens at one place of the graph, for both models, and the Gram matrices of
// one input.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "calibrate/corpus.h"
#include "calibrate/gram.h"
#include "calibrate/statistics.h"
#include "model/model.h"
#include "pipeline/rounded_store.h"
#include "plan/recipe.h"
#include "round/coupled.h"
#include "round/round.h"
#include "tune/scale_descent.h"

namespace tsubu {

struct CalibratedOptions {
  RoundOptions round;
  double damping = 0.01;      // share of the Gram matrix' mean diagonal
  bool asymmetric = true;     // the target is the float model's output on the float model's input
  bool residual = true;       // linears that add to the residual stream make up for its error so far as well
  double residual_share = 1;  // how much of it
  bool embeddings = true;     // token embeddings with feedback against the stream's metric (stream_metric.h)
  double embedding_damping = 0.1;
  bool expert_feedback = true;                 // false: experts by search alone
  bool expert_weights = true;                  // their tokens count with the square of the router's weight
  uint64_t expert_memory = uint64_t{4} << 30;  // bytes of experts' Gram sums at a time (expert_grams.h)
  // Of the forward passes and of the sums; rounding itself multiplies f32. Bytes made with kBf16 depend on the instruction
  // set (Kernels::products_bf16), not on the threads.
  std::optional<Products> products;  // none: choose_products
  double held_out = 0.125;       // share of the chunks that only judge
  // Tokens of the same text from which the output side is learned (calibrate/fisher.h), for descent under the curvature of
  // both sides; 0: rows are rounded each by itself. A held-out part of them judges.
  uint64_t fisher_tokens = 0;
  uint64_t fisher_seed = 1;
  uint64_t fisher_memory = uint64_t{2} << 30;  // bytes of its sums: wide outputs have blocks of rows
  uint64_t fisher_rows = 4096;                 // of a block at most
  double fisher_damping = 0.01;                // share of the mean diagonal, added to it
  CoupledOptions coupled;
  // Afterwards, scales and norm gains of the whole model go down the gradient of its divergence.
  std::optional<ScaleDescentOptions> scales;
  // What divergence is measured from, where the model was transformed beforehand; nullptr: the model itself.
  const Model* reference = nullptr;
  const Model* start = nullptr;  // refine: an encoding of the same types to start from, instead of error feedback
};

// Mean KL divergence of the quantized model from the float one on a few of the chunks it was rounded with and of those held
// out: the gap tells what was learned by heart. Zeros: nothing was held out, or part of the plan is not rounded here.
struct CalibrationDivergence {
  double seen = 0, held_out = 0;
  uint64_t n_tokens = 0;  // scored of each
};

// Rounds every matrix of the plan that error feedback can round (linears and token embeddings with a quantized type
// that has a grid) into the store; what the store already has is taken from there. The rest of the plan is rounded as
// usual by whoever writes the file. Returns what the whole costs. notes: what was left to plain search, and why.
CalibrationDivergence round_calibrated(const Model& model, const std::vector<PlannedTensor>& plan, const Corpus& corpus,
                      const CalibratedOptions& options, ThreadPool& pool, RoundedStore& store,
                      std::vector<std::string>& notes);

// The same against the Gram matrices of a statistics file (tsubu calibrate --gram): no model runs, no float stream, no
// held-out text. Tensors without a Gram matrix are left out; of experts those that read what a dense linear reads are
// rounded against its correlations (pooled_expert_gram).
void round_with_statistics(const Model& model, const std::vector<PlannedTensor>& plan, const Statistics& statistics,
                           const CalibratedOptions& options, ThreadPool& pool, RoundedStore& store);

// kBf16 where the machine is faster with it and the work is minutes long (by its number of multiplications, not by a
// clock: the same model and text give the same choice again), else kF32.
Products choose_products(const Model& model, const std::vector<PlannedTensor>& plan, const Corpus& corpus,
                         const CalibratedOptions& options);

// Seconds that round_calibrated will take, from its multiplications and a short measurement of this machine.
double estimate_calibrated_seconds(const Model& model, const std::vector<PlannedTensor>& plan, const Corpus& corpus,
                                   const CalibratedOptions& options, ThreadPool& pool);

}  // namespace tsubu
