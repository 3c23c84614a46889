// The list of commands: lookup, the overview and the tests are made from it.
#pragma once

#include <span>
#include <string_view>

#include "cli/command.h"

namespace tsubu {

std::span<const Command* const> commands();
// Throws Error(kUsage) with the nearest name.
const Command& command_named(std::string_view name);

}  // namespace tsubu
