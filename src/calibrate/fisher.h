// What the model's output feels of an error at the output of each linear: H_O = Σ g gᵀ, g = ∂(-ln p(y)) / ∂(output) at
// every token, y drawn from the model's own distribution at each position of a window. Its expectation is the Fisher matrix,
// the second derivative of the KL divergence from the model's own distribution. Beside Σ x xᵀ of the inputs it makes the
// Kronecker-factored curvature of a weight. Sources: Tseng et al. 2505.22988 (YAQA), Kim et al. 2505.07004 (GuidedQuant).
// Wide outputs have blocks of consecutive rows, the same number in all linears, so that the sums fit a memory; what is
// between blocks counts as zero.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "calibrate/corpus.h"
#include "calibrate/gram.h"
#include "gradient/backward.h"

namespace tsubu {

class FisherSums : public GradientSink {
 public:
  // Of every linear but the head; block_rows: as fisher_block_rows says.
  FisherSums(const Graph& graph, size_t block_rows, ThreadPool& pool);
  void on_linear(const Op& op, const float* x, const float* g, size_t n_tokens, size_t n_cols, size_t n_rows) override;

  bool has(const std::string& weight) const { return sums_.contains(weight); }
  size_t block_rows() const { return block_rows_; }
  uint64_t n_tokens() const { return n_tokens_; }
  uint64_t n_additions() const { return n_additions_; }  // of some tokens' gradients of one linear
  // The mean over tokens for rows [first, first + n) of the weight, a whole block: n × n.
  AlignedVector<float> block(const std::string& weight, size_t first_row) const;
  // Weights and their blocks' sums.
  const std::map<std::string, std::vector<GramAccumulator>>& sums() const { return sums_; }
  // Everything summed up, to a file and back.
  void save(const std::string& path) const;
  void load(const std::string& path);  // Error(kBadInput) when it is of another model or of other blocks

 private:
  ThreadPool& pool_;
  size_t block_rows_;
  uint64_t n_tokens_ = 0, n_additions_ = 0;
  std::map<std::string, std::vector<GramAccumulator>> sums_;  // blocks, by weight
};

// The most rows of a block (at most `most`) with which the sums of n_sums such objects take at most `memory` bytes.
size_t fisher_block_rows(const Graph& graph, size_t most, size_t n_sums, uint64_t memory);

// Adds one window; `window` is its number among the draws of the seed. Every position counts.
void add_fisher_window(Backward& backward, const std::vector<TokenId>& tokens, uint64_t seed, uint64_t window,
                       FisherSums& sums, ThreadPool& pool);

}  // namespace tsubu
