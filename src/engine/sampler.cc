// Sampling with an own generator, so that a seed gives the same tokens with every standard library.
#include "engine/sampler.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace tsubu {
namespace {

// SplitMix64 (Steele, Lea, Flood 2014).
uint64_t next_random(uint64_t& state) {
  uint64_t z = state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// Greater logit first; of equal ones the smaller id, so that the order is total.
bool better(const std::pair<float, TokenId>& a, const std::pair<float, TokenId>& b) {
  return a.first != b.first ? a.first > b.first : a.second < b.second;
}

}  // namespace

Sampler::Sampler(const SamplerOptions& options) : options_(options), state_(options.seed) {
  const auto bad = [](double x) { return !std::isfinite(x) || x < 0; };
  if (bad(options.temperature) || bad(options.top_p) || bad(options.repeat_penalty) || options.repeat_penalty == 0)
    fail(ExitCode::kUsage,
         "sampling with temperature {}, top-p {}, repeat penalty {}: expected finite numbers ≥ 0, and a penalty > 0",
         options.temperature, options.top_p, options.repeat_penalty);
}

TokenId Sampler::pick(std::span<const float> logits, std::span<const TokenId> recent) {
  if (logits.empty()) fail(ExitCode::kUsage, "sampling from no logits");
  candidates_.clear();
  for (size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i])) fail(ExitCode::kNumeric, "the logit of token {} is not a number", i);
    candidates_.emplace_back(logits[i], static_cast<TokenId>(i));
  }
  if (options_.repeat_penalty != 1.0) {
    // From the logit as given, so that a token counts once however often it occurs (Keskar et al. 2019).
    for (TokenId id : recent) {
      if (id < 0 || static_cast<size_t>(id) >= logits.size()) continue;
      const double l = logits[static_cast<size_t>(id)];
      const double penalized = l > 0 ? l / options_.repeat_penalty : l * options_.repeat_penalty;
      candidates_[static_cast<size_t>(id)].first = static_cast<float>(penalized);
    }
  }
  if (options_.temperature == 0) return std::min_element(candidates_.begin(), candidates_.end(), better)->second;

  if (options_.top_k > 0 && options_.top_k < candidates_.size()) {
    std::partial_sort(candidates_.begin(), candidates_.begin() + options_.top_k, candidates_.end(), better);
    candidates_.resize(options_.top_k);
  } else {
    std::sort(candidates_.begin(), candidates_.end(), better);
  }
  const double best = candidates_.front().first;
  if (std::isinf(best)) return candidates_.front().second;
  const auto weight = [&](const std::pair<float, TokenId>& c) {
    return std::exp((c.first - best) / options_.temperature);
  };
  double total = 0;
  for (const auto& c : candidates_) total += weight(c);
  if (options_.top_p < 1) {
    double kept = 0;
    size_t n = 0;
    do kept += weight(candidates_[n++]);
    while (n < candidates_.size() && kept < options_.top_p * total);
    candidates_.resize(n);
    total = kept;
  }
  double target = static_cast<double>(next_random(state_) >> 11) * 0x1p-53 * total;
  for (const auto& c : candidates_) {
    target -= weight(c);
    if (target < 0) return c.second;
  }
  return candidates_.back().second;
}

}  // namespace tsubu
