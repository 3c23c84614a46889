// Accumulates the statistics of the inputs of a graph's linears while the engine runs.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "calibrate/gram.h"
#include "engine/engine.h"

namespace tsubu {

// One value that linears read.
struct StatisticsInput {
  std::vector<std::string> linears;  // names in the file: the head is output.weight
  std::string first_weight;          // the first one's name in the graph
  size_t n_cols = 0;
  size_t block = 0;      // in which it is read; n_blocks for the head
  size_t n_experts = 0;  // of a mixture: statistics of each one's tokens, no Gram matrices; 0: a dense linear
  size_t n_matrices() const { return n_experts > 0 ? n_experts : 1; }
};

// In graph order; the head's only when wanted.
std::vector<StatisticsInput> statistics_inputs(const Model& model, size_t n_blocks, bool with_head);

class Collector : public LinearObserver {
 public:
  Collector(std::vector<StatisticsInput> inputs, ThreadPool& pool);
  // Moments and, with gram, Gram matrices of inputs [first, last) from now on, others are passed over. Forgets the Gram
  // matrices of other inputs.
  void select(size_t first, size_t last, bool gram);
  void on_linear_input(const Op& op, const float* x, size_t n_tokens, size_t n_cols) override;
  void on_expert_input(const Op& op, size_t expert, const float* x, size_t n_tokens, size_t n_cols) override;
  // Error(kNumeric) when a selected input has seen something that is not finite; `what` says where in the text.
  void check_finite(const std::string& what) const;

  const std::vector<StatisticsInput>& inputs() const { return inputs_; }
  const ColumnMoments& moments(size_t input, size_t expert = 0) const { return moments_[input][expert]; }
  const GramAccumulator* gram(size_t input) const { return grams_[input].get(); }

  // Everything accumulated, to a file and back: moments of all inputs, sums of the selected ones.
  void save(const std::string& path) const;
  void load(const std::string& path);  // Error(kBadInput) when it is not of the same selection

 private:
  std::vector<StatisticsInput> inputs_;
  ThreadPool& pool_;
  size_t find(const std::string& weight);  // of the selected inputs; inputs_.size() when it is none of them
  std::vector<std::vector<ColumnMoments>> moments_;  // by input, by expert
  std::vector<std::unique_ptr<GramAccumulator>> grams_;
  std::shared_ptr<GramScratch> scratch_;
  size_t first_ = 0, last_ = 0, next_ = 0;  // next_: where the next input is looked for first
};

}  // namespace tsubu
