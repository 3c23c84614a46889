// Which windows of a text are learned from and which only judge, and in which order they are learned.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/draws.h"

namespace tsubu {

struct TextWindows {
  std::vector<size_t> learned, judged;  // ascending
};

// Every so many windows one judges, as in pipeline/calibrated.cc; of both kinds as many as the tokens allow (0: all), spread
// over the n windows of `context` tokens. None when held_out is not above 0 or there are too few for both.
inline TextWindows split_windows(size_t n, size_t context, double held_out, uint64_t learned_tokens, uint64_t judged_tokens) {
  TextWindows all;
  if (held_out <= 0) return {};
  const auto period = static_cast<size_t>(std::max(2.0, std::round(1 / held_out)));
  for (size_t c = 0; c < n; ++c) (c % period == period - 1 ? all.judged : all.learned).push_back(c);
  const auto spread = [&](const std::vector<size_t>& from, uint64_t tokens) {
    const uint64_t wanted = tokens == 0 ? from.size() : std::max<uint64_t>(1, tokens / context);
    const size_t count = std::min<size_t>(from.size(), wanted);
    std::vector<size_t> to;
    for (size_t i = 0; i < count; ++i) to.push_back(from[i * from.size() / count]);
    return to;
  };
  if (all.judged.empty()) return {};
  return {spread(all.learned, learned_tokens), spread(all.judged, judged_tokens)};
}

// Windows one after the other, as often as needed: each pass over them is in an order of its own.
class EpochOrder {
 public:
  EpochOrder() = default;
  EpochOrder(std::vector<size_t> windows, uint64_t seed) : windows_(std::move(windows)), seed_(seed) {}
  size_t at(uint64_t place) {
    const uint64_t epoch = place / windows_.size();
    if (order_.empty() || epoch != epoch_) {
      order_ = windows_;
      epoch_ = epoch;
      RowDraws draws(seed_, epoch, 0);
      for (size_t i = order_.size(); i > 1; --i)
        std::swap(order_[i - 1], order_[static_cast<size_t>(draws.uniform() * static_cast<double>(i))]);
    }
    return order_[place % windows_.size()];
  }

 private:
  std::vector<size_t> windows_, order_;
  uint64_t seed_ = 0, epoch_ = 0;
};

}  // namespace tsubu
