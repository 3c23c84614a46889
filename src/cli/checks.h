// Checks of option values, made before a command starts.
#pragma once

#include <CLI/CLI.hpp>

#include <string>

namespace tsubu {

// Numbers in [low, high]; NaN is none.
CLI::Validator number_between(double low, double high);

}  // namespace tsubu
