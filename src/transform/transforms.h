// The list of transforms: changes of a float model that come before rounding. Help, docs and tests are made from it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "transform/awq.h"
#include "transform/editable_model.h"
#include "transform/report.h"

namespace tsubu {

struct TransformOptions {
  ActivationSource source;
  AwqOptions awq;
  std::optional<double> smoothquant_alpha;
  uint64_t seed = 1;
  std::string folder;  // of the changed weights (editable_model.h); empty: memory
};

struct Transform {
  std::string_view name;     // the option is --NAME
  std::string_view summary;  // one line
  std::string_view source;   // paper
  std::string_view measure;  // what the report's errors are; empty: none
  bool needs_activations;
  bool needs_types;     // of the quantized model
  bool keeps_function;  // logits stay the same within rounding to F32
  void (*apply)(EditableModel& model, const TransformOptions& options, ThreadPool& pool, TransformReport& report);
};

// Names of the list for the words that people use: "rotate" is both rotations, "smooth" is smoothquant. Throws
// Error(kUsage) with what there is.
std::vector<std::string> transforms_named(const std::vector<std::string>& words);

// In the order in which they are applied when several are asked for.
std::span<const Transform> transforms();

struct TransformResult {
  std::unique_ptr<EditableModel> model;
  std::vector<TransformReport> reports;
};

// Applies the named ones of the list, in the list's order; activations are looked at anew for each. `model` must
// outlive the result, whose metadata name what was done (tsubu.transform). Throws Error(kUsage) on an unknown name, on
// none, or when a statistics file would have to describe a model that an earlier transform has changed.
TransformResult apply_transforms(const Model& model, const std::vector<std::string>& names,
                                 const TransformOptions& options, ThreadPool& pool);
Json to_json(const TransformReport& report);

}  // namespace tsubu
