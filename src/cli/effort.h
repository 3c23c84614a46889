// How much work calibration text is turned into: --effort of quantize and plan.
#pragma once

#include <algorithm>
#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <string_view>

#include "calibrate/corpus.h"

namespace tsubu {

struct CalibrationEffort {
  std::string_view name;
  uint64_t tokens;     // at most, unless --chunks says otherwise; 0: no text is used for rounding
  int descent_passes;
  uint64_t fisher_tokens;  // of those, from which the output side of the curvature is learned
  int scale_epochs;        // of tuning scales and gains end to end
  uint32_t chunks(uint32_t context) const {
    return static_cast<uint32_t>(std::max<uint64_t>(1, (tokens > 0 ? tokens : uint64_t{1} << 16) / context));
  }
};
// --ctx and --chunks of the text that rounding looks at.
void declare_calibration_windows(CLI::App& app, CorpusOptions& corpus);
// Throws Error(kUsage).
const CalibrationEffort& calibration_effort(const std::string& name);

}  // namespace tsubu
