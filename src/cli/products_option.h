// The option --products of commands that multiply large matrices: f32, bf16, or auto (bf16 for large models where the
// machine multiplies it faster).
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "calibrate/gram.h"
#include "model/model.h"

namespace tsubu {

// "auto" (none), "f32" or "bf16". Throws Error(kUsage).
std::optional<Products> products_named(const std::string& name);

// For measuring: name is what the user chose, "auto" by default.
void declare_products(CLI::App& app, std::string& name);
// Whether to measure with bfloat16 products. other_numbers: activations or weights are computed in other numbers anyway,
// with which bf16 does not go together: Error(kUsage) when it was asked for.
bool takes_bf16(const std::string& name, const Model& model, bool other_numbers);

}  // namespace tsubu
