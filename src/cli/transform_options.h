// --transform and what goes with it: the same for quantize and simulate. And what transforms did, for people.
#pragma once

#include <string>
#include <vector>

#include "cli/command.h"
#include "pipeline/transformed.h"

namespace tsubu {

struct TransformChoice {
  std::vector<std::string> words;  // "rotate", "awq" …
  std::string alpha;
  uint64_t seed = 1;
};

void declare_transform_options(CLI::App& app, TransformChoice& choice);
// Throws Error(kUsage) on words that are no transforms, and on options of transforms that were not asked for.
TransformRequest transform_request(const TransformChoice& choice);

std::string transform_text(const TransformReport& report);

}  // namespace tsubu
