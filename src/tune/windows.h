// Which windows of a text are learned from and which only judge.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "calibrate/corpus.h"

namespace tsubu {

struct TextWindows {
  std::vector<size_t> learned, judged;  // places in Corpus::chunks, ascending
};

// Every so many windows one judges, as in pipeline/calibrated.cc; of both kinds as many as the tokens allow (0: all), spread
// over the text. None when held_out is not above 0 or the text is too short for both.
inline TextWindows split_windows(const Corpus& corpus, double held_out, uint64_t learned_tokens, uint64_t judged_tokens) {
  TextWindows all;
  if (held_out <= 0) return {};
  const auto period = static_cast<size_t>(std::max(2.0, std::round(1 / held_out)));
  for (size_t c = 0; c < corpus.chunks.size(); ++c) (c % period == period - 1 ? all.judged : all.learned).push_back(c);
  const auto spread = [&](const std::vector<size_t>& from, uint64_t tokens) {
    const uint64_t wanted = tokens == 0 ? from.size() : std::max<uint64_t>(1, tokens / corpus.context);
    const size_t n = std::min<size_t>(from.size(), wanted);
    std::vector<size_t> to;
    for (size_t i = 0; i < n; ++i) to.push_back(from[i * from.size() / n]);
    return to;
  };
  if (all.judged.empty()) return {};
  return {spread(all.learned, learned_tokens), spread(all.judged, judged_tokens)};
}

}  // namespace tsubu
