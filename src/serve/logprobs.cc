#include "serve/logprobs.h"

#include <algorithm>
#include <cmath>

namespace tsubu::serve {

TokenId likeliest(std::span<const float> logits) {
  return static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

TokenResult token_result(std::span<const float> logits, TokenId id, size_t n_top) {
  const float best = logits[static_cast<size_t>(likeliest(logits))];
  double sum = 0;
  for (const float l : logits) sum += std::exp(static_cast<double>(l) - static_cast<double>(best));
  const double log_sum = static_cast<double>(best) + std::log(sum);
  const auto logprob = [&](TokenId t) { return static_cast<float>(static_cast<double>(logits[static_cast<size_t>(t)]) - log_sum); };
  TokenResult result{id, logprob(id), {}};
  std::vector<TokenId> ids(n_top > 0 ? logits.size() : 0);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<TokenId>(i);
  n_top = std::min(n_top, ids.size());
  std::partial_sort(ids.begin(), ids.begin() + static_cast<ptrdiff_t>(n_top), ids.end(), [&](TokenId a, TokenId b) {
    const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  });
  for (size_t i = 0; i < n_top; ++i) result.top.emplace_back(ids[i], logprob(ids[i]));
  return result;
}

}  // namespace tsubu::serve
