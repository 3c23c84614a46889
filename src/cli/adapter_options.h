// --adapter: a model with low-rank adapters on top, for every command that computes or writes one.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "model/model.h"

namespace tsubu {

void declare_adapters(CLI::App& app, std::vector<std::string>& adapters);
// The model at `path` (or of the hub) with the adapters' additions, in their order.
std::unique_ptr<Model> open_adapted(const std::string& path, const std::vector<std::string>& adapters);

}  // namespace tsubu
