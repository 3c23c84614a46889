// Tokens that are computed together: of one sequence, or of several side by side.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/error.h"
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
  bool shares_cache = false;  // runs take the places of those before them in one cache: each is stored when its turn comes
  float* logits = nullptr;

  // skipped: tokens of the sequence that stand in the batch already.
  void append(const KvCache& cache, std::span<const TokenId> tokens, size_t skipped = 0) {
    if (tokens.empty()) return;
    const Run run = {&cache, n, tokens.size(), cache.n_past() + skipped};
    for (size_t i = 0; i < run.n; ++i) rows.push_back({tokens[i], run.position + i, runs.size()});
    runs.push_back(run);
    n += run.n;
  }

  // The window's sequences (KvCache::starts) one behind the other: they use the empty cache one after the other.
  void append_sequences(const KvCache& cache, std::span<const TokenId> tokens) {
    const std::span<const uint32_t> starts = cache.starts();
    if (starts.empty()) return append(cache, tokens);
    shares_cache = true;
    for (size_t i = 0; i < starts.size(); ++i) {
      const size_t begin = starts[i], end = i + 1 < starts.size() ? starts[i + 1] : tokens.size();
      if (begin >= end || end > tokens.size() || (i == 0 && begin != 0))
        fail(ExitCode::kUsage, "sequence {} of a window of {} tokens: from {} to {}", i, tokens.size(), begin, end);
      append(cache, tokens.subspan(begin, end - begin));
    }
  }
};

}  // namespace tsubu
