// What can be written into Hugging Face layouts: schemes under the names by which people know them, for each quant_method.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/json.h"
#include "checkpoint/layout.h"
#include "round/sim_format.h"

namespace tsubu {

// How a runtime rounds activations.
enum class LayoutActivations { kNone, kInt8Token, kFp8Token, kFp8Static, kFp8Group, kNvfp4, kMxfp4 };

struct LayoutScheme {
  std::string_view method;  // "gptq": what --format takes
  std::string_view name;    // "W4A16": what --to takes
  std::string_view layout;  // of checkpoint/layouts.cc
  std::string_view format;  // as SimFormat::parse reads it, without the scales' type; "fp8_block": 128 x 128
  LayoutActivations activations;
  std::string_view summary;

  bool is_block() const { return format == "fp8_block"; }
  // Runtimes decode a quantized kv_b_proj before they take it apart, whichever of them reads the layout.
  bool takes_heads() const { return method == "awq" || method == "fp8"; }
  bool is_stacked() const { return layout == "mxfp4"; }  // holds tensors of all experts and nothing else
};

// The first of a method is its default.
std::span<const LayoutScheme> layout_schemes();
// Methods in the order of the list; "hf" (floats) is none of them.
std::vector<std::string> layout_methods();
// scheme: empty for the method's default; case does not count. Throws Error(kUsage) with what there is.
const LayoutScheme& layout_scheme(std::string_view method, std::string_view scheme);
const Layout& layout_named(std::string_view name);

// What a model is written with.
struct LayoutRecipe {
  const LayoutScheme* scheme = nullptr;
  uint64_t group_size = 0;   // 0: the scheme's own
  std::string model_dtype;   // "bfloat16": of config.json
  bool static_inputs = false;  // input_scale or input_global_scale are there

  // With the group size and the scales' type of the layout and model. Blocks: nothing to round with (channel).
  SimFormat format() const;
  SafeDtype scale_type() const;
  bool is_symmetric() const { return format().zero == SimZero::kNone; }
};

// Modules that have one recipe: their names, or the class "Linear" for all that no other group names.
struct LayoutConfigGroup {
  LayoutRecipe recipe;
  std::vector<std::string> modules;
};

// config.json's quantization_config. ignored: modules that stay floats. Several groups: compressed-tensors only.
Json quantization_config(const std::vector<LayoutConfigGroup>& groups, const std::vector<std::string>& ignored);

}  // namespace tsubu
