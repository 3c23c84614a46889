// Log-probabilities of a model's own distribution: temperature 1, nothing cut away.
#pragma once

#include <span>

#include "serve/job.h"

namespace tsubu::serve {

// top: at most n_top, the likeliest first; of equal ones the smaller id.
TokenResult token_result(std::span<const float> logits, TokenId id, size_t n_top);
TokenId likeliest(std::span<const float> logits);

}  // namespace tsubu::serve
