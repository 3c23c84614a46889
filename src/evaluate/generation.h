// What two models write by themselves after the same prompts, greedily: where they part, how long they go on, whether
// they repeat themselves or do not come to an end.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/threads.h"
#include "model/model.h"

namespace tsubu {

struct Prompt {
  std::string text, group;
};

// JSON lines with "prompt" (and "group"), or plain text: one prompt a line. Throws Error(kBadInput).
std::vector<Prompt> read_prompts(const std::string& path);

struct Generation {
  std::vector<TokenId> tokens;
  std::string text;
  bool ended = false;     // with an end token, before the limit
  double repetition = 0;  // share of runs of 4 tokens that were there before
};

// n_tokens at most for each prompt; a prompt too long for the model's context loses its beginning.
std::vector<Generation> generate(std::span<const Prompt> prompts, const Model& model, uint32_t n_tokens, bool act_int8,
                                 ThreadPool& pool);

struct GenerationComparison {
  struct Item {
    uint32_t prompt = 0, first_difference = 0;  // tokens that are the same at the beginning
    bool same = false;
  };
  std::vector<Item> items;             // in the order of the prompts
  double same_share = 0;               // word for word
  double median_first_difference = 0;  // among those that differ; 0 for none
  double length_ratio = 1;             // tokens of the candidate over those of the base
  double base_repetition = 0, repetition = 0;
  uint32_t base_unended = 0, unended = 0;
};
GenerationComparison compare_generations(std::span<const Generation> base, std::span<const Generation> candidate);
// same, first_difference.median, length_ratio, repetition.{base, candidate}, unended.{…}, worst[].
Json to_json(const GenerationComparison& c, std::span<const Prompt> prompts, std::span<const Generation> base,
             std::span<const Generation> candidate);

// Share of the runs of 4 tokens that stand earlier in the same tokens.
double repetition_share(std::span<const TokenId> tokens);

}  // namespace tsubu
