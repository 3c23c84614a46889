// What an error of the residual stream costs, seen from the linears that read it: the quadratic form that token
// embeddings are rounded against.
#pragma once

#include <vector>

#include "base/threads.h"
#include "calibrate/corpus.h"
#include "model/model.h"

namespace tsubu {

// n_embd × n_embd: the sum over all linears that read the stream through a norm of gᵀWᵀWg / (r² v), W the weight, g the
// norm's gains, r² the stream's mean square there (from some chunks of the corpus) and v = |Wg|², the size of the
// outputs for normalized inputs: the squared error of the outputs relative to their size, each linear counting alike.
// Own (the first response only: what the error does inside later blocks is left out).
std::vector<float> stream_metric(const Model& model, const Corpus& corpus, ThreadPool& pool);

}  // namespace tsubu
