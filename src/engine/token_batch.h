// Tokens that are computed together: of one sequence, or of several side by side.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "engine/kv_cache.h"

namespace tsubu {

struct TokenBatch {
  // Consecutive tokens of one sequence: rows [row, row + n) of the batch, from `position` of the sequence on.
  struct Run {
    const KvCache* cache = nullptr;
    size_t row = 0, n = 0, position = 0;
  };
  struct Row {
    TokenId token = 0;
    size_t position = 0, run = 0;
  };

  std::vector<Row> rows;    // one for each token
  std::vector<Run> runs;    // a run's keys stand before those of later runs of its sequence
  size_t n = 0;             // tokens
  size_t first_logits = 0;  // logits are wanted from this token on
  bool is_partial = false;  // the steps end before the head: all tokens go on
  float* logits = nullptr;

  // skipped: tokens of the sequence that stand in the batch already.
  void append(const KvCache& cache, std::span<const TokenId> tokens, size_t skipped = 0) {
    if (tokens.empty()) return;
    const Run run = {&cache, n, tokens.size(), cache.n_past() + skipped};
    for (size_t i = 0; i < run.n; ++i) rows.push_back({tokens[i], run.position + i, runs.size()});
    runs.push_back(run);
    n += run.n;
  }
};

}  // namespace tsubu
