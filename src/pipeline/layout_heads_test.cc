// DeepSeek's kv_b_proj in Hugging Face layouts: quantized where clients read that, else float.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>

#include "base/error.h"
#include "container/test_bytes.h"
#include "model/test_models.h"
#include "pipeline/write_layout.h"

namespace tsubu {
namespace {

// DeepSeek V2 in sizes that every layout can pack.
TinyModel model_of_eights() {
  TinyModel m = tiny_deepseek2();
  m.config.update({{"kv_lora_rank", 16}, {"qk_nope_head_dim", 8}, {"qk_rope_head_dim", 8}, {"v_head_dim", 8}});
  for (int layer = 0; layer < 2; ++layer) {
    const std::string at = "model.layers." + std::to_string(layer) + ".self_attn.";
    for (const char* name : {"q_proj", "kv_a_proj_with_mqa", "kv_a_layernorm", "kv_b_proj", "o_proj"}) m.remove(at + name + ".weight");
    m.add(at + "q_proj.weight", {4 * 16, kTinyEmbd});
    m.add(at + "kv_a_proj_with_mqa.weight", {16 + 8, kTinyEmbd});
    m.add(at + "kv_a_layernorm.weight", {16});
    m.add(at + "kv_b_proj.weight", {4 * (8 + 8), 16});
    m.add(at + "o_proj.weight", {kTinyEmbd, 4 * 8});
  }
  return m;
}

class LayoutHeads : public ::testing::Test {
 protected:
  LayoutHeads() {
    model_of_eights().write(folder_.path().string());
    model_ = Model::open(folder_.path().string());
  }
  WriteLayoutResult write(const char* method, const char* scheme, const std::vector<std::string>& overrides = {}) {
    WriteLayoutOptions options;
    options.output = (folder_.path() / "out").string();
    options.scheme = &layout_scheme(method, scheme);
    options.group_size = std::string(scheme).starts_with("W4") ? 4 : 0;
    options.n_threads = 2;
    override_choices(*model_, overrides, method, options.choices);
    return write_layout(*model_, options);
  }
  // Relative error of keys' and values' matrices in what was written.
  double error() {
    const auto written = Model::open((folder_.path() / "out").string());
    double e = 0, r = 0;
    for (const char* name : {"blk.0.attn_k_b.weight", "blk.1.attn_v_b.weight"}) {
      const ModelTensor &a = model_->tensor(name), &b = written->tensor(name);
      std::vector<float> x(a.n_elements()), y(x.size());
      a.read_rows(0, a.n_rows(), x.data());
      b.read_rows(0, b.n_rows(), y.data());
      for (size_t i = 0; i < x.size(); ++i) {
        e += static_cast<double>((x[i] - y[i]) * (x[i] - y[i]));
        r += static_cast<double>(x[i] * x[i]);
      }
    }
    return std::sqrt(e / r);
  }
  static std::string layout_of(const WriteLayoutResult& result) {
    for (const WrittenTensor& t : result.tensors)
      if (t.name == "model.layers.0.self_attn.kv_b_proj.weight") return t.layout;
    return "missing";
  }

  TemporaryFolder folder_;
  std::unique_ptr<Model> model_;
};

TEST_F(LayoutHeads, AwqQuantizesThem) {
  const WriteLayoutResult result = write("awq", "W4A16_ASYM");
  EXPECT_NE(layout_of(result), "float");
  EXPECT_GT(error(), 0.005);
  EXPECT_LT(error(), 0.2);
}

TEST_F(LayoutHeads, GptqLeavesThemFloats) {
  EXPECT_EQ(layout_of(write("gptq", "W4A16")), "float");
  EXPECT_LT(error(), 2e-3);  // F16
}

TEST_F(LayoutHeads, BlocksOfFp8QuantizeThem) {
  const WriteLayoutResult result = write("fp8", "FP8_BLOCK");
  EXPECT_NE(layout_of(result), "float");
  EXPECT_LT(error(), 0.05);
}

TEST_F(LayoutHeads, CompressedTensorsWhenAskedTo) {
  EXPECT_EQ(layout_of(write("compressed-tensors", "W4A16")), "float");
  std::filesystem::remove_all(folder_.path() / "out");
  const WriteLayoutResult result = write("compressed-tensors", "W4A16", {"kv_b_proj=W4A16:4"});
  EXPECT_NE(layout_of(result), "float");
  EXPECT_GT(error(), 0.005);
  EXPECT_LT(error(), 0.2);
}

TEST_F(LayoutHeads, RowsThatDoNotFitStayFloats) {
  TinyModel odd = model_of_eights();
  odd.config["kv_lora_rank"] = 12;  // of the layer's norm and both of its neighbors
  for (int layer = 0; layer < 2; ++layer) {
    const std::string at = "model.layers." + std::to_string(layer) + ".self_attn.";
    for (const char* name : {"kv_a_proj_with_mqa", "kv_a_layernorm", "kv_b_proj"}) odd.remove(at + name + ".weight");
    odd.add(at + "kv_a_proj_with_mqa.weight", {12 + 8, kTinyEmbd});
    odd.add(at + "kv_a_layernorm.weight", {12});
    odd.add(at + "kv_b_proj.weight", {4 * (8 + 8), 12});
  }
  const TemporaryFolder folder;
  odd.write(folder.path().string());
  const auto model = Model::open(folder.path().string());
  WriteLayoutOptions options;
  options.output = (folder.path() / "out").string();
  options.scheme = &layout_scheme("fp8", "FP8_BLOCK");
  EXPECT_NE(layout_of(write_layout(*model, options)), "float");  // blocks may be cut
  std::filesystem::remove_all(options.output);
  options.scheme = &layout_scheme("compressed-tensors", "W4A16");
  options.group_size = 8;
  override_choices(*model, std::vector<std::string>{"kv_b_proj=W4A16:8"}, "compressed-tensors", options.choices);
  const WriteLayoutResult result = write_layout(*model, options);
  EXPECT_EQ(layout_of(result), "float");
  EXPECT_TRUE(std::any_of(result.notes.begin(), result.notes.end(),
                          [](const std::string& note) { return note.find("kv_b_proj stays as floats") != std::string::npos; }));
}

}  // namespace
}  // namespace tsubu
