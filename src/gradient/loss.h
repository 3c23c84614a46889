// Losses of logits, and their gradients in place of them. Natural logarithms; the gradient of a token's loss has the
// weight `scale`. A token without a target (-1) costs nothing. Rows are independent: same bits for any number of threads.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/threads.h"
#include "text/tokenizer.h"

namespace tsubu {

// Σ -ln softmax(logits)[target]; logits (targets.size(), n_vocab) become scale · (softmax - onehot).
double cross_entropy(std::span<const TokenId> targets, float scale, float* logits, size_t n_vocab, ThreadPool& pool);
// Σ KL(base ‖ softmax(logits)) over the rows of base (logits too); logits become scale · (softmax - softmax(base)).
double divergence_loss(std::span<const float> base, float scale, float* logits, size_t n_vocab, ThreadPool& pool);
// A token for each row, drawn from softmax(logits) by numbers that depend on seed, window and token (first + row) alone.
std::vector<TokenId> sample_targets(const float* logits, size_t n, size_t n_vocab, uint64_t seed, uint64_t window,
                                    uint64_t first, ThreadPool& pool);

}  // namespace tsubu
