// The quantized matrices of a checkpoint by module, found by what tensors there are.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>

#include "checkpoint/layout.h"

namespace tsubu {

struct QuantizedModule {
  const Layout* layout = nullptr;
  std::shared_ptr<const QuantMatrix> matrix;
};

struct QuantizedModules {
  std::map<std::string, QuantizedModule, std::less<>> by_name;  // "model.layers.0.mlp.up_proj"
  std::set<std::string_view> parts;                             // tensors that belong to them
  const QuantizedModule* find(std::string_view module) const {
    const auto it = by_name.find(module);
    return it == by_name.end() ? nullptr : &it->second;
  }
  // "gptq", or several: "pack-quantized, float-quantized"; empty when nothing is quantized.
  std::string layout_names() const;
};

// The references in the result are into weights. Throws Error(kBadInput / kUnsupported), also for tensors that begin a
// layout and fit none.
QuantizedModules find_quantized_modules(const SafetensorsFile& weights, const QuantizationConfig& config);

// Scales of activations and caches, which stand beside weights and are none.
bool is_activation_scale(std::string_view name);

}  // namespace tsubu
