// Checks made before a command starts its work.
#pragma once

#include <CLI/CLI.hpp>

#include <string>

namespace tsubu {

// Numbers in [low, high]; NaN is none.
CLI::Validator number_between(double low, double high);

// Throws the Error(kIo) that writing this file would throw, before the work that it is for. An empty path is none.
void check_can_create(const std::string& path);

}  // namespace tsubu
