// This program again, as a process of its own: what is measured there (peak memory, load time) is of one model alone.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"

namespace tsubu {

// Runs `tsubu ARGUMENTS…` and returns the JSON document that it prints; its stderr is ours. Throws Error with the
// child's exit code when it fails, Error(kIo) when it cannot be started.
Json run_child(const std::vector<std::string>& arguments);

}  // namespace tsubu
