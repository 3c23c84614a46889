// What a layout stores it reads back: every layout that can be written, over random codes, scales and zeros.
#include <cmath>
#include <cstring>
#include <map>
#include <random>

#include "base/half.h"
#include "checkpoint/layout.h"
#include "checkpoint/quantization_config.h"
#include "checkpoint/quantized_modules.h"
#include "codec/number_format.h"
#include "container/test_bytes.h"

namespace tsubu {
namespace {

struct Case {
  const char *name, *layout;
  int bits;
  uint64_t rows, cols, group, row_step;
  bool asymmetric = false, nested = false;
  const char* kind = "";
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

const Layout& layout_of(const Case& c) {
  for (const Layout* layout : layouts())
    if (layout->name == std::string_view(c.layout)) return *layout;
  throw std::runtime_error("no such layout");
}

class LayoutStore : public testing::TestWithParam<Case> {};

LayoutMatrix random_weights(const Case& c) {
  std::mt19937 random(static_cast<unsigned>(c.bits + 10 * c.rows));
  LayoutMatrix w;
  w.n_rows = c.rows;
  w.n_cols = c.cols;
  w.group_columns = c.group;
  w.code_bits = c.bits;
  w.row_step = c.row_step;
  w.kind = c.kind;
  w.model_dtype = "float32";
  const bool integers = std::string_view(c.kind) == "int";
  for (uint64_t i = 0; i < c.rows * c.cols; ++i) {
    const int code = static_cast<int>(random() % (1u << c.bits));
    const bool is_nan = c.bits == 8 && !integers && (code & 0x7f) == 0x7f;
    w.codes.push_back(static_cast<uint8_t>(integers ? static_cast<int8_t>(code - (1 << (c.bits - 1))) : is_nan ? 0 : code));
  }
  const uint64_t n_scales = (c.rows + c.row_step - 1) / c.row_step * w.n_groups();
  const bool nv = std::string_view(c.layout).starts_with("nvfp4"), mx = std::string_view(c.layout).starts_with("mxfp4");
  if (nv) w.tensor_scale = 0.125f;
  for (uint64_t i = 0; i < n_scales; ++i) {
    const float s = static_cast<float>(random() % 200 + 1) / 64;
    w.scales.push_back(mx   ? std::ldexp(1.0f, static_cast<int>(random() % 20) - 10)
                       : nv ? 0.125f * find_number_format("fp8_e4m3")->decode(static_cast<uint8_t>(random() % 0x7e + 1))
                            : s);
    if (c.asymmetric) w.zeros.push_back(static_cast<int8_t>(static_cast<int>(random() % (1u << c.bits)) - (1 << (c.bits - 1))));
  }
  if (c.nested) {
    w.nested = double_quantize_scales(w.scales);
    for (size_t i = 0; i < w.scales.size(); ++i) w.scales[i] = w.nested->scale(i);
  }
  return w;
}

TEST_P(LayoutStore, IsReadBack) {
  const Case c = GetParam();
  const Layout& layout = layout_of(c);
  ASSERT_NE(layout.store, nullptr);
  const LayoutMatrix w = random_weights(c);
  const TemporaryFolder folder;
  {
    SafetensorsWriter writer(folder / "model.safetensors");
    const std::vector<StoredPart> parts = layout.store(w);
    std::map<std::string, const StoredPart*> by_name;
    for (const StoredPart& p : parts) {
      writer.declare("m" + p.suffix, p.dtype, p.shape);
      by_name["m" + p.suffix] = &p;
    }
    for (const std::string& name : writer.begin_data()) writer.write(by_name.at(name)->bytes);
    writer.commit();
  }
  const std::string config = fmt::format(
      R"({{"quantization_config": {{"quant_method": "{}", "bits": {}, "group_size": {}, "checkpoint_format": "{}",
          "config_groups": {{"group_0": {{"targets": ["Linear"], "weights": {{"num_bits": {}, "group_size": {}}}}}}}}}}})",
      layout.method, c.bits, c.group, c.asymmetric ? "gptq_v2" : "gptq", c.bits, c.group);
  const QuantizationConfig read = read_quantization_config("d", {}, parse_json(config, "config"), "config");
  const SafetensorsFile file = SafetensorsFile::open(folder / "model.safetensors");
  const QuantizedModules modules = find_quantized_modules(file, read);
  const QuantizedModule* module = modules.find("m");
  ASSERT_NE(module, nullptr);
  EXPECT_EQ(module->layout->name, layout.name);
  EXPECT_EQ(modules.parts.size(), file.tensors().size());
  const QuantMatrix& m = *module->matrix;
  ASSERT_EQ(m.n_rows(), c.rows);
  ASSERT_EQ(m.n_cols(), c.cols);
  std::vector<uint8_t> codes(c.rows * c.cols);
  std::vector<float> scales(c.rows * m.n_groups()), zeros(scales.size());
  m.read_codes(0, c.rows, codes.data());
  m.read_scales(0, c.rows, scales.data(), zeros.data());
  const bool integers = std::string_view(c.kind) == "int", bnb8 = std::string_view(c.layout) == "bitsandbytes-int8";
  const float low = m.levels()[0];  // of layouts that count from 0 the middle is the zero
  for (uint64_t row = 0; row < c.rows; ++row)
    for (uint64_t k = 0; k < c.cols; ++k) {
      const uint64_t g = k / m.group_columns(), stored = (row / c.row_step) * w.n_groups() + k / w.group_columns;
      const float scale = scales[row * m.n_groups() + g], zero = zeros[row * m.n_groups() + g];
      ASSERT_EQ(scale, bnb8 ? 127 * w.scales[stored] : w.scales[stored]) << row << " " << k;
      if (!integers) {
        ASSERT_EQ(codes[row * c.cols + k], w.codes[row * c.cols + k]) << row << " " << k;
        continue;
      }
      const float shift = low < 0 || (m.code_bits() == 8 && std::string_view(c.layout) != "gptq") ? 0 : static_cast<float>(1 << (c.bits - 1));
      ASSERT_EQ(m.levels()[codes[row * c.cols + k]] - shift, static_cast<float>(static_cast<int8_t>(w.codes[row * c.cols + k])));
      ASSERT_EQ(zero - shift, w.zeros.empty() ? 0.0f : static_cast<float>(w.zeros[stored])) << row << " " << k;
    }
}

// Parts that are missing, of another shape or type: opened and read within their bytes, or refused.
TEST_P(LayoutStore, DamagedPartsAreRefusedOrRead) {
  const Case c = GetParam();
  const std::vector<StoredPart> parts = layout_of(c).store(random_weights(c));
  const auto attempt = [&](const std::vector<StoredPart>& damaged) {
    const TemporaryFolder folder;
    SafetensorsWriter writer(folder / "model.safetensors");
    std::map<std::string, const StoredPart*> by_name;
    for (const StoredPart& p : damaged) {
      writer.declare("m" + p.suffix, p.dtype, p.shape);
      by_name["m" + p.suffix] = &p;
    }
    for (const std::string& name : writer.begin_data()) writer.write(by_name.at(name)->bytes);
    writer.commit();
    try {
      QuantizationConfig config;
      config.json = Json::object();
      config.method = layout_of(c).method;
      const SafetensorsFile file = SafetensorsFile::open(folder / "model.safetensors");
      const QuantizedModules modules = find_quantized_modules(file, config);
      for (const auto& [name, module] : modules.by_name) {
        std::vector<float> row(module.matrix->n_cols());
        for (uint64_t r : {uint64_t{0}, module.matrix->n_rows() - 1}) module.matrix->read_rows(r, 1, row.data());
      }
    } catch (const Error& e) {
      EXPECT_TRUE(e.code() == ExitCode::kBadInput || e.code() == ExitCode::kUnsupported) << e.what();
    }
  };
  attempt(parts);
  for (size_t i = 0; i < parts.size(); ++i) {
    std::vector<StoredPart> damaged = parts;
    damaged.erase(damaged.begin() + static_cast<ptrdiff_t>(i));
    attempt(damaged);
    for (size_t d = 0; d <= parts[i].shape.size(); ++d)
      for (int change : {-1, 1, 2}) {
        damaged = parts;
        StoredPart& p = damaged[i];
        if (d == p.shape.size())
          p.shape.push_back(1);
        else if (change < 0 && p.shape[d] > 0)
          p.shape[d] -= 1;
        else
          p.shape[d] += static_cast<uint64_t>(change);
        p.bytes.resize(safe_tensor_bytes(p.dtype, p.shape).value());
        attempt(damaged);
      }
    for (SafeDtype dtype : {SafeDtype::kU8, SafeDtype::kI8, SafeDtype::kF16, SafeDtype::kI32, SafeDtype::kF32, SafeDtype::kF8E4M3}) {
      damaged = parts;
      damaged[i].dtype = dtype;
      damaged[i].bytes.resize(safe_tensor_bytes(dtype, damaged[i].shape).value());
      attempt(damaged);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Layouts, LayoutStore,
    testing::Values(Case{"gptq2", "gptq", 2, 32, 64, 32, 1, false, false, "int"}, Case{"gptq3", "gptq", 3, 32, 64, 32, 1, true, false, "int"},
                    Case{"gptq4", "gptq", 4, 40, 64, 32, 1, false, false, "int"}, Case{"gptq4_asym", "gptq", 4, 40, 64, 16, 1, true, false, "int"},
                    Case{"gptq8", "gptq", 8, 36, 64, 64, 1, true, false, "int"}, Case{"awq", "awq", 4, 24, 96, 32, 1, false, false, "int"},
                    Case{"awq_asym", "awq", 4, 24, 96, 32, 1, true, false, "int"},
                    Case{"pack3", "pack-quantized", 3, 7, 50, 16, 1, false, false, "int"},
                    Case{"pack4", "pack-quantized", 4, 9, 64, 32, 1, true, false, "int"},
                    Case{"pack5", "pack-quantized", 5, 9, 64, 64, 1, true, false, "int"},
                    Case{"int8", "int-quantized", 8, 9, 33, 33, 1, false, false, "int"},
                    Case{"int8_asym", "int-quantized", 8, 9, 33, 33, 1, true, false, "int"},
                    Case{"fp8_channel", "float-quantized", 8, 9, 33, 33, 1, false, false, "fp8"},
                    Case{"fp8_tensor", "float-quantized", 8, 9, 33, 33, 9, false, false, "fp8"},
                    Case{"fp8_block", "fp8-block", 8, 130, 200, 128, 128, false, false, "fp8"},
                    Case{"nvfp4", "nvfp4-pack-quantized", 4, 5, 48, 16, 1, false, false, "fp4"},
                    Case{"mxfp4", "mxfp4-pack-quantized", 4, 5, 96, 32, 1, false, false, "fp4"},
                    Case{"nf4", "bitsandbytes-4bit", 4, 6, 128, 64, 1, false, false, "nf4"},
                    Case{"fp4_double", "bitsandbytes-4bit", 4, 96, 256, 64, 1, false, true, "fp4"},
                    Case{"bnb8", "bitsandbytes-int8", 8, 6, 32, 32, 1, false, false, "int"}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(LayoutStores, WhatDoesNotFitIsRefused) {
  Case c{"", "awq", 4, 12, 96, 32, 1, false, false, "int"};
  EXPECT_NE(error_of([&] { (void)layout_of(c).store(random_weights(c)); }, ExitCode::kUnsupported).find("AWQ packs"), std::string::npos);
  c = {"", "mxfp4-pack-quantized", 4, 2, 40, 32, 1, false, false, "fp4"};
  EXPECT_NE(error_of([&] { (void)layout_of(c).store(random_weights(c)); }, ExitCode::kUnsupported).find("40 inputs"), std::string::npos);
}

}  // namespace
}  // namespace tsubu
