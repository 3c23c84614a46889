// Picks the next token from logits: greedy at temperature 0, else temperature, top-k, top-p with a seeded generator.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "text/tokenizer.h"

namespace tsubu {

struct SamplerOptions {
  double temperature = 0.8, top_p = 0.95, repeat_penalty = 1.0;
  uint32_t top_k = 40;
  uint64_t seed = 1;
};

class Sampler {
 public:
  explicit Sampler(const SamplerOptions& options);
  // recent: tokens the repeat penalty looks at.
  TokenId pick(std::span<const float> logits, std::span<const TokenId> recent);

 private:
  SamplerOptions options_;
  uint64_t state_;
  std::vector<std::pair<float, TokenId>> candidates_;
};

}  // namespace tsubu
