// From the words of a command line to a command's exit code.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"

namespace tsubu {

// arguments: without the program's name. Throws Error; usage mistakes are Error(kUsage) that name the nearest option.
ExitCode run_command_line(const std::vector<std::string>& arguments);

}  // namespace tsubu
