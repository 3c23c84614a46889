// Gram matrices of the inputs of a mixture's experts, one expert after the other. A token counts with the square of the
// weight that its router gives the expert, as the error of the expert's output does in the sum that the model goes on with.
// What few tokens say is shrunk (round/shrinkage.h): where all experts read one value (gate, up) toward the matrix of all
// tokens that any of them got, where each has values of its own (down; the heads of latent attention) toward its diagonal.
//
// Memory: n (n + 1) / 2 doubles for each sum (of n columns; half with bfloat16 products), one or, with held-out text, two
// sums for an expert; the pooled ones n² floats each. As many experts as fit are summed up at once; then the text goes
// through the part of the graph again for the next ones.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/aligned.h"
#include "base/threads.h"
#include "calibrate/gram.h"
#include "calibrate/statistics.h"
#include "model/graph.h"
#include "round/shrinkage.h"

namespace tsubu {

// A group of linears of experts that read one value, and how to come by the value.
struct ExpertInput {
  const Op* op = nullptr;  // the first of them
  size_t n_cols = 0;       // of one expert
  size_t n_chunks = 0, n_tokens = 0;  // of the text, and of each chunk
  size_t held_period = 0;  // the last of so many chunks is held out; 0: none is
  // The values op->inputs[0] and [1] of all tokens of a chunk: valid until the next call.
  struct Values {
    const float *x = nullptr, *route = nullptr;
  };
  std::function<Values(size_t chunk)> read;
};
// n_cols from the graph.
ExpertInput expert_input(const Graph& graph, const Op& op);

// What is known of one expert's input. Means over its tokens, n × n; empty where no token was.
struct ExpertGram {
  uint64_t n_tokens = 0, n_held = 0;  // that were routed to it
  double shrinkage = 1;               // share of the target in `learned`
  AlignedVector<float> learned, held;
};

struct ExpertGramOptions {
  Products products = Products::kF32;
  uint64_t memory = uint64_t{4} << 30;  // bytes of all sums in progress
  bool weighted = true;                 // false: every token counts once
};

class ExpertGrams {
 public:
  // Reads the text once: counts tokens and sums up what the experts share. Throws Error(kNumeric) when an input is not
  // finite.
  ExpertGrams(ExpertInput input, const ExpertGramOptions& options, ThreadPool& pool);
  ~ExpertGrams();

  size_t n_cols() const { return input_.n_cols; }
  // Bytes that the sums of one expert and the shared ones take. Where they are more than the budget nothing is summed up.
  uint64_t least_bytes() const;
  bool fits() const { return least_bytes() <= options_.memory; }
  // Mean squares of the columns over the expert's tokens that are not held out, by column; ones where there are none.
  std::vector<float> mean_squares(size_t expert) const;
  uint64_t n_tokens(size_t expert) const;  // not held out
  uint64_t n_held() const { return n_held_; }  // of all experts
  // Each expert once, in ascending order; only when it fits().
  ExpertGram take(size_t expert);

 private:
  struct Sums;
  struct Expert;
  size_t experts_at_once() const;
  uint64_t sum_bytes() const;
  bool is_held(size_t chunk) const;
  void visit(size_t first, size_t last, const std::function<void(size_t expert, bool held, std::span<const float> rows)>& see);
  void look_once();
  void sum_up(size_t first);
  AlignedVector<float> shrunk(Sums& sums, std::span<const float> pooled, uint64_t pool_tokens, std::span<const float> metric, double& share);

  ExpertInput input_;
  ExpertGramOptions options_;
  ThreadPool& pool_;
  std::shared_ptr<GramScratch> scratch_;
  std::vector<ColumnMoments> moments_;
  AlignedVector<float> pooled_, pooled_held_;  // means
  std::vector<float> metric_;                  // of the pool
  uint64_t n_learned_ = 0, n_held_ = 0;
  std::vector<std::unique_ptr<Expert>> experts_;  // those from first_ on that are summed up
  size_t first_ = 0, last_ = 0;
};

// What a statistics file of dense linears' Gram matrices knows of an expert that reads what a dense linear reads (gate and
// up, which read the router's input): the correlations of all tokens under the mean squares of its own. n × n; empty where
// the file has no such matrix.
AlignedVector<float> pooled_expert_gram(const Statistics& statistics, const Graph& graph, const std::string& weight, uint64_t expert);

}  // namespace tsubu
