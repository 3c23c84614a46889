// Scores of single tokens under a candidate and its base, and what is made of many of them. Everything in nats.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/error.h"
#include "base/threads.h"
#include "evaluate/evaluate.h"
#include "evaluate/statistics.h"
#include "model/model.h"

namespace tsubu {

// What is kept of one scored token.
struct TokenScore {
  float nll = 0, base_nll = 0;      // of the token that follows in the text
  float kld = 0;                    // KL(base ‖ candidate)
  float top_p = 0, base_top_p = 0;  // probability of each model's own likeliest token
  TokenId top = -1, base_top = -1;
  bool top1_agrees() const { return top == base_top; }
};

// Which positions of a chunk are scored: those from `first`, each predicting the next token.
struct ChunkProtocol {
  uint32_t context = 0;
  size_t first = 0;
  TokenId bos = -1;  // replaces the first token of every chunk; -1: nothing does
  size_t n_scored() const { return context - 1 - first; }
};

ChunkProtocol chunk_protocol(EvalProtocol protocol, uint32_t context, const Vocabulary& vocabulary);
// The tokens of chunk number `chunk` as the models see them.
std::vector<TokenId> chunk_input(std::span<const TokenId> tokens, uint64_t chunk, const ChunkProtocol& protocol);

// Logits of the model, not of its base, that are not finite.
struct NotFinite : Error {
  explicit NotFinite(uint64_t token);
  uint64_t position;
};

// logits, base_logits: (n_scored, n_vocab); base_logits may be empty. position: of the first scored token in the text,
// for messages. Throws Error(kNumeric) on logits that are not finite: NotFinite where they are the model's.
std::vector<TokenScore> score_chunk(std::span<const float> logits, std::span<const float> base_logits,
                                    std::span<const TokenId> input, const ChunkProtocol& protocol, uint64_t position,
                                    ThreadPool& pool);

BlockSums sums_of(std::span<const TokenScore> scores);
PerplexityResult perplexity_of(std::span<const TokenScore> scores, float TokenScore::*nll);
DivergenceResult divergence_of(std::span<const TokenScore> scores, std::span<const BlockSums> blocks,
                               uint32_t n_bootstrap, uint64_t seed);

// Throws Error(kBadInput) when the two models do not have the same tokens.
void check_same_vocabulary(const Model& candidate, const Model& base);

Json to_json(const PerplexityResult& perplexity);
Json to_json(const Interval& interval);
// mean, ci95, median, …: the value of the key "divergence".
Json to_json(const DivergenceResult& divergence);

}  // namespace tsubu
