// Layouts: the ways in which quantized linears lie in safetensors files, one file each and one list (layouts.cc).
// A layout looks at the tensors of one module ("model.layers.0.mlp.up_proj") and makes a QuantMatrix of them, or leaves
// them to the next. What tensors, dtypes and shapes say counts more than what the configuration says, because the
// configurations of published files are often wrong; the configuration decides what tensors cannot.
// Shapes: N outputs, K inputs, b bits, g columns in a group.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/json.h"
#include "checkpoint/quant_matrix.h"
#include "codec/bitsandbytes.h"

namespace tsubu {

// quantization_config of config.json, or what stands beside it in files of its own.
struct QuantizationConfig {
  Json json;           // an object; empty when there is none
  std::string where;   // "dir/config.json: quantization_config"
  std::string method;  // "gptq", "awq", "compressed-tensors", "bitsandbytes", "fp8", "mxfp4", "modelopt" …; may be empty
  const TypeInfo* model_type = nullptr;  // config.json's dtype: F32, F16 or BF16; nullptr: not said

  bool empty() const { return method.empty() && json.empty(); }
  std::optional<uint64_t> find_uint(std::string_view key) const;
  std::string string(std::string_view key) const;  // empty: not there
};

struct LayoutInput {
  const SafetensorsFile& weights;
  const QuantizationConfig& config;

  const SafeTensor* find(const std::string& name) const { return weights.find(name); }
  std::string where(const SafeTensor& tensor) const { return weights.paths().at(tensor.shard); }
};

// A matrix to be written: what rounding gave, before any layout packs it.
struct LayoutMatrix {
  uint64_t n_rows = 0, n_cols = 0, group_columns = 0;
  int code_bits = 4;
  // (n_rows, n_cols). Integers: the code itself, -2^(b-1) … 2^(b-1)-1, as an int8; floats and tables: the code's bits.
  std::vector<uint8_t> codes;
  std::vector<float> scales;     // (row steps, groups), those of one tensor or block once
  uint64_t row_step = 1;         // rows that share scales; n_rows with one scale for the tensor
  std::vector<int8_t> zeros;     // as codes, of the scales' shape; empty: symmetric
  float tensor_scale = 1;        // NVFP4: what the group scales multiply; already in `scales`
  SafeDtype scale_type = SafeDtype::kF32;  // F32, F16 or BF16; `scales` are such numbers
  std::string kind;              // bitsandbytes: "nf4" or "fp4"
  std::optional<DoubleQuantized> nested;  // bitsandbytes: scales in 8 bits; `scales` are what they decode to
  std::string model_dtype;       // "bfloat16"

  uint64_t n_groups() const { return (n_cols + group_columns - 1) / group_columns; }
};

struct StoredPart {
  std::string suffix;  // ".qweight"
  SafeDtype dtype;
  std::vector<uint64_t> shape;
  std::vector<std::byte> bytes;
};

struct Layout {
  std::string_view name;     // "gptq", "pack-quantized"
  std::string_view method;   // config.json's quant_method: what --format takes
  std::string_view anchor;   // ending of the tensor that makes open() look at a module
  std::string_view stores;   // tensors and shapes, one line
  std::string_view summary;
  // nullptr: the module's tensors are those of another layout. Throws Error(kBadInput / kUnsupported) when they are this
  // one's and do not fit each other.
  std::unique_ptr<QuantMatrix> (*open)(const LayoutInput& in, const std::string& module);
  // The tensors of a module; nullptr: read only. Throws Error(kUnsupported) for what the layout cannot hold.
  std::vector<StoredPart> (*store)(const LayoutMatrix& w);
  bool folds_norms = false;  // its files may have scales of a matrix' inputs folded into the norm before, and do not say so
};

std::span<const Layout* const> layouts();

// Shared by the layouts' files.

// Throws Error(kBadInput): "file: tensor NAME: expected …, found …".
[[noreturn]] void bad_tensor(const LayoutInput& in, const SafeTensor& tensor, const std::string& expected);
// Dimensions of a matrix: two, neither zero nor above 2^32.
struct Dims {
  uint64_t rows, cols;
};
Dims dims_of(const LayoutInput& in, const SafeTensor& tensor);
bool is_float(const SafeTensor& tensor);  // F32, F16, BF16
// Element i of F32, F16, BF16, F8_E4M3 (as its number) or U8/I8.
float number_at(const SafeTensor& tensor, uint64_t i);
uint32_t word_at(const SafeTensor& tensor, uint64_t i);  // of I32/U32, little endian
const TypeInfo& type_of_floats(const SafeTensor& tensor);
// The type of the model's weights, else that of these scales.
const TypeInfo& value_type_of(const LayoutInput& in, const SafeTensor& scales);

// Scales on a lattice of rows × columns: one for all, one for each row, for each group of columns, for each block.
struct ScaleGrid {
  const SafeTensor* tensor = nullptr;
  uint64_t row_step = 1, rows = 1, cols = 1;  // rows of the matrix that share a row of scales; shape of the scales
  uint64_t group_columns = 0;
  std::string kind;  // "tensor", "channel", "group=128", "block=128x128"

  uint64_t index(uint64_t row, uint64_t g) const { return (rows == 1 ? 0 : row / row_step) * cols + (cols == 1 ? 0 : g); }
};
// block: rows × columns of a block or of a group that the configuration says, 0 where it does not.
ScaleGrid scale_grid_of(const LayoutInput& in, const SafeTensor& scales, uint64_t n_rows, uint64_t n_cols, Dims block);

// Parts out of vectors; floats rounded to dtype.
template <class T>
StoredPart part_of(std::string suffix, SafeDtype dtype, std::vector<uint64_t> shape, const std::vector<T>& values) {
  const auto raw = std::as_bytes(std::span(values));
  return {std::move(suffix), dtype, std::move(shape), {raw.begin(), raw.end()}};
}
StoredPart float_part(std::string suffix, SafeDtype dtype, std::vector<uint64_t> shape, std::span<const float> values);

// Numbers of codes: -2^(b-1) … for offset codes, 0 … for unsigned ones, two's complement, E4M3, E2M1.
std::array<float, 256> offset_levels(int bits);
std::array<float, 256> unsigned_levels(int bits);
std::array<float, 256> signed_levels(int bits);
std::array<float, 256> e4m3_levels();
std::array<float, 256> e2m1_levels();

}  // namespace tsubu
