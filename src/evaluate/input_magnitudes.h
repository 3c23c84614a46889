// How large the inputs of a model's linears get on a text: what static activation scales are made of.
#pragma once

#include <map>
#include <span>
#include <string>

#include "base/threads.h"
#include "model/model.h"

namespace tsubu {

// By the name of the linear's weight: the largest |x|, or with a percentile below 100 the smallest magnitude that at
// least so many percent of the values do not exceed, rounded up to 7 mantissa bits. The text is run in chunks of
// `context` tokens by the model as it is; the head sees every token. Throws Error(kUsage) when there is not one chunk,
// Error(kNumeric) when an input is not finite.
std::map<std::string, float> input_magnitudes(const Model& model, std::span<const TokenId> tokens, size_t context,
                                              double percentile, ThreadPool& pool);

}  // namespace tsubu
