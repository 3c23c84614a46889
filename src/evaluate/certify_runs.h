// The work of certify that is done more than once: the measurement itself, and the checks of how stable it is.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "evaluate/certify.h"
#include "evaluate/scoring.h"

namespace tsubu {

using Models = std::vector<std::unique_ptr<Model>>;  // the candidates, in the order of CertifyResult::candidates

// Tokens of texts, each cut to whole chunks.
struct Chunks {
  std::vector<TokenId> tokens;
  std::vector<uint32_t> text_of;      // by chunk
  std::vector<uint64_t> first_token;  // by chunk, in its text
};

// limit: chunks of each text; 0: all. Adds each text to `sources` and `contents`. Throws Error(kUsage) on a text that is
// shorter than one chunk.
Chunks read_chunks(const std::vector<std::string>& paths, const Tokenizer& tokenizer, uint32_t context, uint32_t limit,
                   std::vector<TextSource>& sources, std::vector<std::string>& contents);

// One model, and its logits of the chunk it ran last.
struct Runner {
  std::unique_ptr<Engine> engine;
  std::unique_ptr<Session> session;
  std::vector<float> logits;

  Runner(const Model& model, const ChunkProtocol& protocol, bool act_int8, bool bf16_products, ThreadPool& pool);
  void run(std::span<const TokenId> input, const ChunkProtocol& protocol);
};

// Scores of every chunk by candidate; a candidate whose logits are not finite stops being run: its error says so.
struct AllScores {
  std::vector<std::vector<TokenScore>> scores;  // by candidate, chunk after chunk
  std::vector<std::vector<BlockSums>> blocks;
  std::vector<Remark> errors;
};

// Of the first n_chunks.
AllScores score_chunks(const Chunks& chunks, size_t n_chunks, const ChunkProtocol& protocol, Runner& base,
                       std::vector<Runner>& candidates, const std::string& label, ThreadPool& pool);

// The texts of a run: what was read, and what came of it.
struct TextRun {
  Chunks chunks;
  ChunkProtocol protocol;
  AllScores all;
};

// Divergence of a candidate without an error, in all and by text, with the intervals of one seed.
void set_divergence(const TextRun& run, size_t candidate, uint64_t seed, CertifyResult& r);

// Scores of the questions: r.base_tasks, and task_scores (or the error) of each candidate.
void score_tasks(const Models& models, const Model& base, CertifyResult& r, ThreadPool& pool);
// From these scores: tasks of each candidate.
void compare_tasks(CertifyResult& r);

}  // namespace tsubu
