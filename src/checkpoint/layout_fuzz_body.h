// What the fuzz target of layouts does with its input, for the replay test as well. Input: config.json, a zero byte, a
// safetensors file. Either its quantized modules are found and their rows can be read, or tsubu::Error is thrown.
#pragma once

#include <algorithm>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "checkpoint/quantization_config.h"
#include "checkpoint/quantized_modules.h"
#include "container/safetensors.h"

namespace tsubu {

inline void read_some(const QuantMatrix& matrix) {
  constexpr uint64_t kMostColumns = uint64_t{1} << 16;
  if (matrix.n_cols() > kMostColumns) return;
  std::vector<uint8_t> codes(matrix.n_cols());
  std::vector<float> scales(matrix.n_groups()), zeros(matrix.n_groups()), row(matrix.n_cols());
  for (const uint64_t r : {uint64_t{0}, matrix.n_rows() / 2, matrix.n_rows() - 1}) {
    matrix.read_codes(r, 1, codes.data());
    matrix.read_scales(r, 1, scales.data(), zeros.data());
    matrix.read_rows(r, 1, row.data());
  }
}

// Number of modules that were found and read; 0 for what is refused.
inline size_t try_layout(std::span<const std::byte> bytes) {
  const auto end = std::find(bytes.begin(), bytes.end(), std::byte{0});
  if (end == bytes.end()) return 0;
  const std::string text(reinterpret_cast<const char*>(bytes.data()), static_cast<size_t>(end - bytes.begin()));
  // As in a mapped file, the tensors begin where a word may.
  const std::vector<std::byte> rest(end + 1, bytes.end());
  try {
    const SafetensorsFile file = SafetensorsFile::parse(rest, "input");
    const QuantizationConfig config = read_quantization_config("d", {}, parse_json(text, "config.json"), "config.json");
    const QuantizedModules modules = find_quantized_modules(file, config);
    for (const auto& [name, module] : modules.by_name) read_some(*module.matrix);
    return modules.by_name.size();
  } catch (const Error&) {
    return 0;
  }
}

}  // namespace tsubu
