// Models whose linears lie in a quantized layout: values and rows as those of the floats that they stand for.
#include "base/half.h"
#include "container/test_bytes.h"
#include "model/model.h"
#include "model/test_models.h"

namespace tsubu {
namespace {

// The tiny Llama's q, k and up projections as int-quantized: codes that go through all values, a scale for each row.
void write_quantized(const TemporaryFolder& folder, const TinyModel& tiny, const std::vector<std::string>& modules) {
  SafetensorsWriter writer(folder / "model.safetensors");
  std::map<std::string, std::vector<std::byte>> data;
  const auto add = [&](const std::string& name, SafeDtype dtype, std::vector<uint64_t> shape, const auto& values) {
    writer.declare(name, dtype, shape);
    const auto raw = std::as_bytes(std::span(values));
    data[name] = {raw.begin(), raw.end()};
  };
  for (const TinyTensor& t : tiny.tensors) {
    const std::string module = t.name.substr(0, t.name.rfind('.'));
    if (std::find(modules.begin(), modules.end(), module) == modules.end() || !t.name.ends_with(".weight")) {
      add(t.name, SafeDtype::kF32, t.shape, t.values);
      continue;
    }
    std::vector<int8_t> codes;
    for (size_t i = 0; i < t.values.size(); ++i) codes.push_back(static_cast<int8_t>(i * 7));
    std::vector<float> scales;
    for (uint64_t row = 0; row < t.shape[0]; ++row) scales.push_back(static_cast<float>(row + 1) / 8);
    add(t.name, SafeDtype::kI8, t.shape, codes);
    add(module + ".weight_scale", SafeDtype::kF32, {t.shape[0], 1}, scales);
  }
  for (const std::string& name : writer.begin_data()) writer.write(data.at(name));
  writer.commit();
}

TEST(ModelQuantized, RowsAreThoseOfTheFloats) {
  const std::vector<std::string> modules = {"model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.k_proj",
                                            "model.layers.0.mlp.up_proj"};
  TinyModel tiny = tiny_llama();
  const TemporaryFolder folder, floats;
  tiny.write(folder.path().string());
  write_quantized(folder, tiny, modules);
  for (const std::string& module : modules) {
    TinyTensor& t = tiny.tensor(module + ".weight");
    for (size_t i = 0; i < t.values.size(); ++i)
      t.values[i] = static_cast<float>(static_cast<int8_t>(i * 7)) * (static_cast<float>(i / t.shape[1] + 1) / 8);
  }
  tiny.write(floats.path().string());
  const auto quantized = Model::open(folder.path().string()), plain = Model::open(floats.path().string());
  EXPECT_EQ(quantized->layout(), "int-quantized");
  ASSERT_EQ(quantized->tensors().size(), plain->tensors().size());
  int n_quantized = 0;
  for (const ModelTensor& t : quantized->tensors()) {
    n_quantized += t.quantized() != nullptr;
    const ModelTensor& p = plain->tensor(t.name());
    std::vector<float> a(t.n_elements()), b(t.n_elements());
    t.read_rows(0, t.n_rows(), a.data());
    p.read_rows(0, p.n_rows(), b.data());
    EXPECT_EQ(a, b) << t.name();
    for (uint64_t row = 0; row < t.n_rows(); ++row) t.read_rows(row, 1, a.data() + row * t.n_cols());
    EXPECT_EQ(a, b) << t.name();
    t.read_source_rows(0, t.n_rows(), a.data());
    p.read_source_rows(0, p.n_rows(), b.data());
    EXPECT_EQ(a, b) << t.name();
    EXPECT_EQ(t.raw().empty(), p.raw().empty() || t.quantized());
  }
  EXPECT_EQ(n_quantized, 3);
}

TEST(ModelQuantized, ShapesThatDoNotFitTheConfiguration) {
  const TemporaryFolder folder;
  TinyModel tiny = tiny_llama();
  tiny.write(folder.path().string());
  tiny.tensor("model.layers.0.mlp.up_proj.weight").shape = {12, 2 * kTinyEmbd};
  write_quantized(folder, tiny, {"model.layers.0.mlp.up_proj"});
  const std::string message = error_of([&] { (void)Model::open(folder.path().string()); });
  EXPECT_NE(message.find("up_proj.weight: config.json makes it (24, 16), found (12, 32) (int8 channel)"), std::string::npos)
      << message;
}

}  // namespace
}  // namespace tsubu
