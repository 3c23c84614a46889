// Several schemes in one Hugging Face directory: which linear gets which. A layout of several is one that has groups of
// modules in its configuration: compressed-tensors.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/model.h"
#include "pipeline/layout_schemes.h"
#include "plan/recipe.h"

namespace tsubu {

struct LayoutChoice {
  const LayoutScheme* scheme = nullptr;  // nullptr: the linear stays as floats
  uint64_t group_size = 0;               // 0: the scheme's own
  bool operator==(const LayoutChoice&) const = default;
};

// By the tensor's name in a GGUF file; linears that are not in it get the scheme of the whole.
using LayoutChoices = std::map<std::string, LayoutChoice>;

// "W4A16", "W4A16:64" (group size) or "float". Throws Error(kUsage).
LayoutChoice parse_layout_choice(std::string_view method, std::string_view text);

// The GGUF types of a recipe as schemes on the same grid (Q4_0: 4-bit integers in groups of 32 …). Throws Error(kUsage)
// with the types that have an equal when a linear's type has none.
LayoutChoices choices_of_recipe(const Model& model, const Recipe& recipe, const PlanOptions& options,
                                std::string_view method);

// As kept in a manifest: {"blk.0.ffn_down.weight": "W8A16:32"}. Throws Error(kBadInput) when it is none of ours.
Json to_json(const LayoutChoices& choices);
LayoutChoices choices_from_json(const Json& json, std::string_view method, const std::string& where);

// "PATTERN=SCHEME": PATTERN is an ECMAScript regular expression, searched in the linear's name in Hugging Face and in GGUF.
// The first that matches wins, and wins over what is in choices. Throws Error(kUsage) when one matches no linear.
void override_choices(const Model& model, std::span<const std::string> overrides, std::string_view method,
                      LayoutChoices& choices);

// Runtimes put linears that read one value into one product (q, k and v; gate and up): these must have one scheme. Throws
// Error(kUsage) that names the first that do not.
void check_fused(const Model& model, const LayoutChoices& choices);

// A linear that is quantized. is_own: its recipe is not that of the whole.
struct ChosenLinear {
  std::string module;  // of Hugging Face
  LayoutRecipe recipe;
  bool is_own = false;
};
// Linears of equal recipes together, in order; where one has the recipe of the whole, its group is "Linear".
std::vector<LayoutConfigGroup> config_groups(std::span<const ChosenLinear> linears);

// The quantization_config of a model whose linears all have a choice. dtype: "bfloat16", of config.json.
Json choices_config(const Model& model, const LayoutChoices& choices, std::string_view dtype);

// GGUF types that choices_of_recipe takes, in the order of their list.
std::vector<const TypeInfo*> types_with_schemes(std::string_view method);

}  // namespace tsubu
