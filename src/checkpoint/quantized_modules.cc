#include "checkpoint/quantized_modules.h"

#include <algorithm>
#include <vector>

#include "base/error.h"

namespace tsubu {
namespace {

// Dtypes that hold plain weights, or that no layout packs codes in.
bool holds_codes(const SafeTensor& tensor) {
  return tensor.dtype == SafeDtype::kI32 || tensor.dtype == SafeDtype::kU8 || tensor.dtype == SafeDtype::kI8 ||
         tensor.dtype == SafeDtype::kF8E4M3;
}

}  // namespace

std::string QuantizedModules::layout_names() const {
  std::vector<std::string_view> names;
  for (const auto& [name, module] : by_name)
    if (std::find(names.begin(), names.end(), module.layout->name) == names.end()) names.push_back(module.layout->name);
  std::string text;
  for (std::string_view name : names) text += (text.empty() ? "" : ", ") + std::string(name);
  return text;
}

bool is_activation_scale(std::string_view name) {
  for (std::string_view suffix : {".input_scale", ".input_zero_point", ".input_global_scale", ".output_scale", ".k_scale",
                                  ".v_scale", ".q_scale", ".k_zero_point", ".v_zero_point"})
    if (name.ends_with(suffix)) return true;
  return false;
}

QuantizedModules find_quantized_modules(const SafetensorsFile& weights, const QuantizationConfig& config) {
  const LayoutInput in{weights, config};
  QuantizedModules found;
  for (const SafeTensor& tensor : weights.tensors()) {
    for (const Layout* layout : layouts()) {
      if (!tensor.name.ends_with(layout->anchor) || tensor.name.size() == layout->anchor.size()) continue;
      const std::string module = tensor.name.substr(0, tensor.name.size() - layout->anchor.size());
      if (found.by_name.contains(module)) break;
      std::shared_ptr<const QuantMatrix> matrix = layout->open(in, module);
      if (!matrix) continue;
      for (const SafeTensor* part : matrix->parts()) found.parts.insert(part->name);
      found.by_name.emplace(module, QuantizedModule{layout, std::move(matrix)});
      break;
    }
  }
  for (const SafeTensor& tensor : weights.tensors()) {
    if (found.parts.contains(tensor.name) || !holds_codes(tensor)) continue;
    for (std::string_view ending : {".qweight", ".weight_packed", ".weight", "_blocks", ".trellis", ".W_q"})
      if (tensor.name.ends_with(ending)) {
        std::string names;
        for (const Layout* layout : layouts()) names += (names.empty() ? "" : ", ") + std::string(layout->name);
        fail(ExitCode::kUnsupported,
             "{}: tensor {}: {} without the scales that a layout keeps beside it: expected F32, F16 or BF16, or one of "
             "the layouts {}",
             in.where(tensor), tensor.name, safe_dtype_name(tensor.dtype), names);
      }
  }
  return found;
}

}  // namespace tsubu
