// What layouts share; see layout.h.
#include "checkpoint/layout.h"

#include <cstring>

#include "base/error.h"
#include "base/half.h"
#include "codec/small_floats.h"

namespace tsubu {
namespace {

constexpr uint64_t kMaxDimension = uint64_t{1} << 32;

}  // namespace

std::optional<uint64_t> QuantizationConfig::find_uint(std::string_view key) const {
  const auto it = json.find(key);
  if (it == json.end() || !it->is_number_integer()) return {};
  const auto value = it->get<int64_t>();
  return value < 0 ? std::nullopt : std::optional(static_cast<uint64_t>(value));
}

std::string QuantizationConfig::string(std::string_view key) const {
  const auto it = json.find(key);
  return it != json.end() && it->is_string() ? it->get<std::string>() : "";
}

void bad_tensor(const LayoutInput& in, const SafeTensor& tensor, const std::string& expected) {
  fail(ExitCode::kBadInput, "{}: tensor {}: expected {}, found {} [{}]", in.where(tensor), tensor.name, expected,
       safe_dtype_name(tensor.dtype), fmt::join(tensor.shape, ", "));
}

Dims dims_of(const LayoutInput& in, const SafeTensor& tensor) {
  if (tensor.shape.size() != 2) bad_tensor(in, tensor, "two dimensions");
  for (uint64_t d : tensor.shape)
    if (d == 0 || d > kMaxDimension) bad_tensor(in, tensor, "dimensions from 1 to 2^32");
  return {tensor.shape[0], tensor.shape[1]};
}

bool is_float(const SafeTensor& tensor) {
  return tensor.dtype == SafeDtype::kF32 || tensor.dtype == SafeDtype::kF16 || tensor.dtype == SafeDtype::kBF16;
}

float number_at(const SafeTensor& tensor, uint64_t i) {
  const std::byte* const data = tensor.data.data();
  const auto half = [&] {
    uint16_t h;
    std::memcpy(&h, data + 2 * i, 2);
    return h;
  };
  switch (tensor.dtype) {
    case SafeDtype::kF32: {
      float f;
      std::memcpy(&f, data + 4 * i, 4);
      return f;
    }
    case SafeDtype::kF16:
      return f16_to_f32(half());
    case SafeDtype::kBF16:
      return bf16_to_f32(half());
    case SafeDtype::kF8E4M3:
      return e4m3_to_f32(std::to_integer<uint32_t>(data[i]));
    case SafeDtype::kI8:
      return static_cast<float>(static_cast<int8_t>(std::to_integer<uint8_t>(data[i])));
    default:
      return static_cast<float>(std::to_integer<uint8_t>(data[i]));
  }
}

uint32_t word_at(const SafeTensor& tensor, uint64_t i) {
  uint32_t word;
  std::memcpy(&word, tensor.data.data() + 4 * i, 4);
  return word;
}

const TypeInfo& type_of_floats(const SafeTensor& tensor) { return type_named(safe_dtype_name(tensor.dtype)); }

const TypeInfo& value_type_of(const LayoutInput& in, const SafeTensor& scales) {
  if (in.config.model_type) return *in.config.model_type;
  return is_float(scales) ? type_of_floats(scales) : type_named("BF16");
}

ScaleGrid scale_grid_of(const LayoutInput& in, const SafeTensor& scales, uint64_t n_rows, uint64_t n_cols, Dims block) {
  ScaleGrid grid;
  grid.tensor = &scales;
  grid.group_columns = n_cols;
  uint64_t n = 1;
  for (uint64_t d : scales.shape) n *= std::min(d, kMaxDimension);
  if (n == 1) {
    grid.kind = "tensor";
    return grid;
  }
  std::vector<uint64_t> shape = scales.shape;
  if (shape.size() == 1) shape.push_back(1);
  if (shape.size() != 2 || shape[0] == 0 || shape[1] == 0) bad_tensor(in, scales, "one scale, or rows and columns of them");
  grid.rows = shape[0];
  grid.cols = shape[1];
  const auto fits = [](uint64_t whole, uint64_t step, uint64_t count) { return (whole + step - 1) / step == count; };
  // Columns of a group: what the configuration says when it fits, the usual 128, else an exact division.
  const auto step_of = [&](uint64_t whole, uint64_t said, uint64_t count) -> uint64_t {
    if (said > 0 && said < whole && fits(whole, said, count)) return said;
    if (count == 1) return whole;
    if (whole % count == 0) return whole / count;
    if (fits(whole, 128, count)) return 128;
    bad_tensor(in, scales, fmt::format("scales that divide a matrix of {} x {}", n_rows, n_cols));
  };
  grid.group_columns = step_of(n_cols, block.cols, grid.cols);
  if (grid.rows == n_rows) {
    grid.kind = grid.cols == 1 ? "channel" : fmt::format("group={}", grid.group_columns);
    return grid;
  }
  grid.row_step = step_of(n_rows, block.rows, grid.rows);
  grid.kind = fmt::format("block={}x{}", grid.row_step, grid.group_columns);
  return grid;
}

StoredPart float_part(std::string suffix, SafeDtype dtype, std::vector<uint64_t> shape, std::span<const float> values) {
  StoredPart part{std::move(suffix), dtype, std::move(shape), {}};
  const TypeInfo& type = type_named(safe_dtype_name(dtype));
  part.bytes.resize(values.size() * type.block_bytes);
  type.encode(values.data(), nullptr, part.bytes.data(), values.size());
  return part;
}

std::array<float, 256> offset_levels(int bits) {
  std::array<float, 256> levels{};
  for (int c = 0; c < 1 << bits; ++c) levels[static_cast<size_t>(c)] = static_cast<float>(c - (1 << (bits - 1)));
  return levels;
}

std::array<float, 256> unsigned_levels(int bits) {
  std::array<float, 256> levels{};
  for (int c = 0; c < 1 << bits; ++c) levels[static_cast<size_t>(c)] = static_cast<float>(c);
  return levels;
}

std::array<float, 256> signed_levels(int bits) {
  std::array<float, 256> levels{};
  const int half = 1 << (bits - 1);
  for (int c = 0; c < 2 * half; ++c) levels[static_cast<size_t>(c)] = static_cast<float>(c < half ? c : c - 2 * half);
  return levels;
}

std::array<float, 256> e4m3_levels() {
  std::array<float, 256> levels{};
  for (uint32_t c = 0; c < 256; ++c) levels[c] = e4m3_to_f32(c);
  return levels;
}

std::array<float, 256> e2m1_levels() {
  std::array<float, 256> levels{};
  for (uint32_t c = 0; c < 16; ++c) levels[c] = e2m1_to_f32(c);
  return levels;
}

}  // namespace tsubu
