// Layouts of quantized checkpoints: known words and bytes, what decides between layouts, versions and packings, and what
// is refused. The golden vectors are those of the layouts' own packers.
#include "checkpoint/layout.h"

#include <cmath>
#include <cstring>
#include <map>

#include "base/half.h"
#include "checkpoint/quantization_config.h"
#include "checkpoint/quantized_modules.h"
#include "container/test_bytes.h"

namespace tsubu {
namespace {

struct Stored {
  SafeDtype dtype;
  std::vector<uint64_t> shape;
  std::vector<std::byte> bytes;
};

template <class T>
Stored stored(SafeDtype dtype, std::vector<uint64_t> shape, const std::vector<T>& values) {
  Stored s{dtype, std::move(shape), std::vector<std::byte>(values.size() * sizeof(T))};
  std::memcpy(s.bytes.data(), values.data(), s.bytes.size());
  return s;
}
Stored words(std::vector<uint64_t> shape, const std::vector<uint32_t>& v) { return stored(SafeDtype::kI32, shape, v); }
Stored bytes(std::vector<uint64_t> shape, const std::vector<uint8_t>& v) { return stored(SafeDtype::kU8, shape, v); }
Stored floats(std::vector<uint64_t> shape, const std::vector<float>& v) { return stored(SafeDtype::kF32, shape, v); }
Stored halves(std::vector<uint64_t> shape, const std::vector<float>& v) {
  std::vector<uint16_t> h;
  for (float f : v) h.push_back(f32_to_f16(f));
  return stored(SafeDtype::kF16, shape, h);
}

class Checkpoint {
 public:
  explicit Checkpoint(std::map<std::string, Stored> tensors, const std::string& config = "{}") {
    SafetensorsWriter writer(folder_ / "model.safetensors");
    for (const auto& [name, t] : tensors) writer.declare(name, t.dtype, t.shape);
    for (const std::string& name : writer.begin_data()) writer.write(tensors.at(name).bytes);
    writer.commit();
    config_ = read_quantization_config("d", {}, parse_json(config, "config.json"), "config.json");
    file_ = SafetensorsFile::open(folder_ / "model.safetensors");
    modules_ = find_quantized_modules(file_, config_);
  }
  const QuantizedModules& modules() const { return modules_; }
  const QuantMatrix& matrix(const std::string& name = "m") const { return *modules_.find(name)->matrix; }
  std::string layout(const std::string& name = "m") const {
    const auto* module = modules_.find(name);
    return module ? std::string(module->layout->name) : "none";
  }
  std::vector<int> codes(uint64_t row, const std::string& name = "m") const {
    std::vector<uint8_t> c(matrix(name).n_cols());
    matrix(name).read_codes(row, 1, c.data());
    return {c.begin(), c.end()};
  }
  std::vector<float> row(uint64_t r, const std::string& name = "m") const {
    std::vector<float> x(matrix(name).n_cols());
    matrix(name).read_rows(r, 1, x.data());
    return x;
  }

 private:
  TemporaryFolder folder_;
  SafetensorsFile file_;
  QuantizationConfig config_;
  QuantizedModules modules_;
};

std::string refusal(const std::map<std::string, Stored>& tensors, const std::string& config = "{}",
                    ExitCode code = ExitCode::kBadInput) {
  return error_of([&] { Checkpoint c(tensors, config); }, code);
}

std::map<std::string, Stored> gptq(uint32_t word, uint32_t zeros, uint64_t n = 8) {
  return {{"m.qweight", words({1, n}, std::vector<uint32_t>(n, word))},
          {"m.qzeros", words({1, n / 8}, std::vector<uint32_t>(n / 8, zeros))},
          {"m.scales", halves({1, n}, std::vector<float>(n, 0.5f))},
          {"m.g_idx", words({8}, std::vector<uint32_t>(8, 0))}};
}

TEST(Gptq, GoldenWordAndZerosOfBothVersions) {
  const char* v2 = R"({"quantization_config": {"quant_method": "gptq", "checkpoint_format": "gptq_v2", "sym": false}})";
  const char* v1 = R"({"quantization_config": {"quant_method": "gptq", "checkpoint_format": "gptq", "sym": false}})";
  const std::vector<float> symmetric = {-4, -3.5, -3, -2.5, -2, -1.5, -1, -0.5};
  EXPECT_EQ(Checkpoint(gptq(0x76543210, 0x77777777), v1).codes(3), (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7}));
  // Values decide where they can, whatever the configuration says.
  for (const char* config : {v1, v2, "{}"}) {
    EXPECT_EQ(Checkpoint(gptq(0x76543210, 0x77777777), config).row(0), symmetric) << config;
    EXPECT_EQ(Checkpoint(gptq(0x76543210, 0x88888888), config).row(0), symmetric) << config;
  }
  // Elsewhere the configuration does: a stored 2 is a zero of 3 or of 2, a stored 15 of version 1 is 0.
  EXPECT_EQ(Checkpoint(gptq(0x33333333, 0x22222222), v1).row(0), std::vector<float>(8, 0.0f));
  EXPECT_EQ(Checkpoint(gptq(0x33333333, 0x22222222), v2).row(0), std::vector<float>(8, 0.5f));
  EXPECT_EQ(Checkpoint(gptq(0x33333333, 0xffffffff), v1).row(0), std::vector<float>(8, 1.5f));
}

TEST(Gptq, ThreeBitsAreAStream) {
  const Checkpoint c({{"m.qweight", words({3, 1}, {0x88fac688, 0xc688fac6, 0xfac688fa})},
                      {"m.qzeros", words({1, 1}, {3})},
                      {"m.scales", halves({1, 1}, {1})}},
                     R"({"quantization_config": {"quant_method": "gptq", "bits": 3}})");
  std::vector<int> expected;
  for (int i = 0; i < 32; ++i) expected.push_back(i % 8);
  EXPECT_EQ(c.codes(0), expected);
  EXPECT_EQ(c.layout(), "gptq");
}

TEST(Gptq, ActivationOrder) {
  auto tensors = gptq(0x11111111, 0x00000000);
  tensors["m.qzeros"] = words({2, 1}, {0x00000000, 0x33333333});
  tensors["m.scales"] = halves({2, 8}, {1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2});
  tensors["m.g_idx"] = words({8}, {0, 1, 0, 1, 1, 0, 0, 1});
  const Checkpoint c(tensors);  // version 1: zeros 1 and 4
  EXPECT_EQ(c.row(5), (std::vector<float>{0, -6, 0, -6, -6, 0, 0, -6}));
  tensors["m.g_idx"] = words({8}, {0, 1, 0, 1, 1, 0, 0, 2});
  EXPECT_NE(refusal(tensors).find("m.g_idx: expected groups below 2"), std::string::npos);
}

TEST(Awq, GoldenWord) {
  std::vector<uint32_t> weight(32, 0x75316420);
  const Checkpoint c({{"m.qweight", words({32, 1}, weight)},
                      {"m.qzeros", words({1, 1}, {0x75316420})},
                      {"m.scales", halves({1, 8}, std::vector<float>(8, 0.25f))}});
  EXPECT_EQ(c.layout(), "awq");
  for (uint64_t n = 0; n < 8; ++n) {
    EXPECT_EQ(c.codes(n), std::vector<int>(32, static_cast<int>(n)));
    EXPECT_EQ(c.row(n), std::vector<float>(32, 0.0f));  // its zero is n, too
  }
}

TEST(PackQuantized, GoldenWordsAndZeros) {
  std::map<std::string, Stored> tensors = {{"m.weight_packed", words({8, 1}, std::vector<uint32_t>(8, 0x76543210))},
                                           {"m.weight_scale", halves({8, 1}, std::vector<float>(8, 0.5f))},
                                           {"m.weight_shape", stored<int64_t>(SafeDtype::kI64, {2}, {8, 8})}};
  const std::vector<float> expected = {-4, -3.5, -3, -2.5, -2, -1.5, -1, -0.5};
  EXPECT_EQ(Checkpoint(tensors).row(2), expected);
  tensors["m.weight_shape"] = stored<int32_t>(SafeDtype::kI32, {2}, {8, 8});
  tensors["m.weight_zero_point"] = words({1, 1}, {0x88888888});  // 0
  EXPECT_EQ(Checkpoint(tensors).row(7), expected);
  tensors["m.weight_zero_point"] = words({1, 1}, {0x98888888});  // 1 for the last output
  EXPECT_EQ(Checkpoint(tensors).row(6), expected);
  EXPECT_EQ(Checkpoint(tensors).row(7)[0], -4.5f);
}

TEST(PackQuantized, BothPackingsOfThreeBits) {
  const auto config = R"({"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {"group_0":
    {"targets": ["Linear"], "weights": {"num_bits": 3, "group_size": 32}}}}})";
  std::map<std::string, Stored> tensors = {{"m.weight_packed", words({1, 3}, {0x88fac688, 0xc688fac6, 0xfac688fa})},
                                           {"m.weight_scale", halves({1, 1}, {1})},
                                           {"m.weight_shape", stored<int64_t>(SafeDtype::kI64, {2}, {1, 32})}};
  std::vector<int> expected;
  for (int i = 0; i < 32; ++i) expected.push_back(i % 8);
  EXPECT_EQ(Checkpoint(tensors, config).codes(0), expected);
  // Ten to a word: four words.
  std::vector<uint32_t> old(4);
  for (uint32_t i = 0; i < 32; ++i) old[i / 10] |= (i % 8) << (i % 10 * 3);
  tensors["m.weight_packed"] = words({1, 4}, old);
  EXPECT_EQ(Checkpoint(tensors, config).codes(0), expected);
  tensors["m.weight_packed"] = words({1, 11}, std::vector<uint32_t>(11));
  EXPECT_NE(refusal(tensors, config).find("words for 32 codes"), std::string::npos);
}

TEST(IntQuantized, ScalesAndZeros) {
  std::map<std::string, Stored> tensors = {
      {"m.weight", stored<int8_t>(SafeDtype::kI8, {2, 3}, {-128, 0, 127, 1, 2, 3})},
      {"m.weight_scale", floats({2, 1}, {0.5f, 2})}};
  EXPECT_EQ(Checkpoint(tensors).row(0), (std::vector<float>{-64, 0, 63.5f}));
  EXPECT_EQ(Checkpoint(tensors).row(1), (std::vector<float>{2, 4, 6}));
  tensors["m.weight_zero_point"] = stored<int8_t>(SafeDtype::kI8, {2, 1}, {0, -1});
  EXPECT_EQ(Checkpoint(tensors).row(1), (std::vector<float>{4, 6, 8}));
  tensors["m.weight_scale"] = floats({5}, {1, 1, 1, 1, 1});
  EXPECT_NE(refusal(tensors).find("m.weight_scale: expected"), std::string::npos);
}

TEST(Fp8, TensorChannelBlockAndMx) {
  std::map<std::string, Stored> tensors = {
      {"m.weight", stored<uint8_t>(SafeDtype::kF8E4M3, {2, 2}, {0x38, 0x40, 0xb8, 0x7e})},  // 1, 2, -1, 448
      {"m.weight_scale", floats({1}, {0.5f})}};
  EXPECT_EQ(Checkpoint(tensors).row(1), (std::vector<float>{-0.5f, 224}));
  tensors["m.weight_scale"] = floats({}, {2});
  EXPECT_EQ(Checkpoint(tensors).row(0), (std::vector<float>{2, 4}));
  tensors["m.weight_scale"] = floats({2, 1}, {1, 3});
  EXPECT_EQ(Checkpoint(tensors).row(1)[0], -3.0f);

  // Blocks of 128 whose last row and column are cut, 130 x 129: the scale of an edge block is that of (1, 1).
  std::map<std::string, Stored> block = {
      {"m.weight", stored(SafeDtype::kF8E4M3, {130, 129}, std::vector<uint8_t>(130 * 129, 0x38))},
      {"m.weight_scale_inv", floats({2, 2}, {1, 2, 3, 4})}};
  const Checkpoint c(block, R"({"dtype": "bfloat16", "quantization_config": {"quant_method": "fp8",
    "weight_block_size": [128, 128]}})");
  EXPECT_EQ(c.layout(), "fp8-block");
  EXPECT_EQ(c.matrix().value_type().name, "BF16");
  EXPECT_EQ(c.row(127)[127], 1.0f);
  EXPECT_EQ(c.row(127)[128], 2.0f);
  EXPECT_EQ(c.row(128)[127], 3.0f);
  EXPECT_EQ(c.row(129)[128], 4.0f);

  const Checkpoint mx({{"m.weight", stored(SafeDtype::kF8E4M3, {1, 32}, std::vector<uint8_t>(32, 0x38))},
                       {"m.weight_scale", bytes({1, 1}, {130})}});
  EXPECT_EQ(mx.layout(), "mxfp8-quantized");
  EXPECT_EQ(mx.row(0)[31], 8.0f);
}

TEST(Fp4, GoldenBytesAndScales) {
  std::vector<uint8_t> data = {0xa1, 0x87};  // 0.5, -1, 6, -0
  data.resize(16);
  const std::vector<uint8_t> one = {127};
  const Checkpoint mx({{"m.weight_packed", bytes({1, 16}, data)}, {"m.weight_scale", bytes({1, 1}, one)}});
  EXPECT_EQ(mx.layout(), "mxfp4-pack-quantized");
  const auto row = mx.row(0);
  EXPECT_EQ((std::vector<float>{row[0], row[1], row[2]}), (std::vector<float>{0.5f, -1, 6}));
  EXPECT_TRUE(row[3] == 0 && std::signbit(row[3]));
  const Checkpoint nan({{"m.weight_packed", bytes({1, 16}, data)}, {"m.weight_scale", bytes({1, 1}, {255})}});
  EXPECT_TRUE(std::isnan(nan.row(0)[0]));

  const Checkpoint oss({{"x.mlp.down_proj_blocks", bytes({1, 1, 1, 16}, data)},
                        {"x.mlp.down_proj_scales", bytes({1, 1, 1}, {128})}});
  EXPECT_EQ(oss.layout("x.mlp.down_proj"), "mxfp4");
  EXPECT_EQ(oss.row(0, "x.mlp.down_proj")[2], 12.0f);

  // Groups of 16; compressed-tensors divides by the global scale, ModelOpt multiplies.
  const Stored scales = stored<uint8_t>(SafeDtype::kF8E4M3, {1, 2}, {0x38, 0x40});
  data[8] = 0x77;
  const Checkpoint ct({{"m.weight_packed", bytes({1, 16}, data)},
                       {"m.weight_scale", scales},
                       {"m.weight_global_scale", floats({1}, {4})}});
  EXPECT_EQ(ct.layout(), "nvfp4-pack-quantized");
  EXPECT_EQ(ct.row(0)[2], 1.5f);
  EXPECT_EQ(ct.row(0)[16], 3.0f);
  const Checkpoint modelopt(
      {{"m.weight", bytes({1, 16}, data)}, {"m.weight_scale", scales}, {"m.weight_scale_2", floats({}, {4})}});
  EXPECT_EQ(modelopt.layout(), "modelopt-nvfp4");
  EXPECT_EQ(modelopt.row(0)[2], 24.0f);
}

TEST(Modelopt, Int4PacksTwoOutputs) {
  const Checkpoint c({{"m.weight", bytes({1, 2}, {0xf1, 0x78})},
                      {"m.weight_scale", floats({2, 1}, {1, 10})},
                      {"m.pre_quant_scale", halves({2}, {1, 0.5f})}});
  EXPECT_EQ(c.layout(), "modelopt-int4");
  EXPECT_EQ(c.row(0), (std::vector<float>{1, -4}));
  EXPECT_EQ(c.row(1), (std::vector<float>{-10, 35}));
}

TEST(Bitsandbytes, GoldenBytesAndBothScales) {
  std::vector<float> map(16);
  for (size_t i = 0; i < 16; ++i) map[i] = static_cast<float>(i) / 16;
  const auto state = [](const std::string& more) {
    const std::string json = R"({"quant_type": "nf4", "blocksize": 4, "dtype": "float32", "shape": [2, 6])" + more + "}";
    return bytes({json.size()}, std::vector<uint8_t>(json.begin(), json.end()));
  };
  // Twelve weights in three blocks of four: the second one has weights of both rows.
  std::map<std::string, Stored> tensors = {{"m.weight", bytes({6, 1}, {0x0f, 0x78, 0x11, 0x11, 0x22, 0x22})},
                                           {"m.weight.quant_map", floats({16}, map)},
                                           {"m.weight.absmax", floats({3}, {16, 32, 48})},
                                           {"m.weight.quant_state.bitsandbytes__nf4", state("")}};
  const Checkpoint c(tensors);
  EXPECT_EQ(c.layout(), "bitsandbytes-4bit");
  EXPECT_EQ(c.codes(0), (std::vector<int>{0, 15, 7, 8, 1, 1}));
  EXPECT_EQ(c.row(0), (std::vector<float>{0, 15, 7, 8, 2, 2}));
  EXPECT_EQ(c.row(1), (std::vector<float>{2, 2, 6, 6, 6, 6}));

  std::vector<float> nested(256);
  for (size_t i = 0; i < 256; ++i) nested[i] = static_cast<float>(i);
  tensors["m.weight.absmax"] = bytes({3}, {14, 30, 46});
  tensors["m.weight.nested_quant_map"] = floats({256}, nested);
  tensors["m.weight.nested_absmax"] = floats({1}, {1});
  tensors["m.weight.quant_state.bitsandbytes__nf4"] = state(R"(, "nested_blocksize": 256, "nested_offset": 2.0)");
  EXPECT_EQ(Checkpoint(tensors).row(0), c.row(0));
  tensors.erase("m.weight.nested_absmax");
  EXPECT_NE(refusal(tensors).find("m.weight.nested_absmax is missing"), std::string::npos);
}

TEST(Bitsandbytes, Int8) {
  const Checkpoint c({{"m.weight", stored<int8_t>(SafeDtype::kI8, {1, 2}, {127, -64})},
                      {"m.SCB", floats({1}, {2})},
                      {"m.weight_format", bytes({}, {0})}});
  EXPECT_EQ(c.layout(), "bitsandbytes-int8");
  EXPECT_EQ(c.row(0)[0], 254.0f * (1.0f / 127.0f));
}

TEST(Layouts, ValuesAreRoundedAsClientsDo) {
  // 7 · 0.1 in halves is a half.
  std::map<std::string, Stored> tensors = gptq(0xffffffff, 0x88888888);
  tensors["m.scales"] = halves({1, 8}, std::vector<float>(8, 0.1f));
  const float value = Checkpoint(tensors).row(0)[0];
  EXPECT_EQ(value, f16_to_f32(f32_to_f16(7 * f16_to_f32(f32_to_f16(0.1f)))));
}

TEST(Layouts, CodesWithoutALayoutAreRefused) {
  const auto message = [](const std::map<std::string, Stored>& tensors) {
    return refusal(tensors, "{}", ExitCode::kUnsupported);
  };
  EXPECT_NE(message({{"m.weight", stored(SafeDtype::kF8E4M3, {1, 2}, std::vector<uint8_t>(2))}}).find("m.weight: F8_E4M3"),
            std::string::npos);
  EXPECT_NE(message({{"m.qweight", words({1, 2}, {0, 0})}}).find("gptq, awq"), std::string::npos);
}

TEST(Layouts, TargetsOfCompressedTensors) {
  EXPECT_TRUE(matches_target("Linear", "model.layers.0.mlp.up_proj"));
  EXPECT_TRUE(matches_target("re:.*up_proj$", "model.layers.0.mlp.up_proj"));
  EXPECT_FALSE(matches_target("re:mlp", "model.layers.0.mlp.up_proj"));  // from the name's start
  EXPECT_FALSE(matches_target("model.layers.1.mlp.up_proj", "model.layers.0.mlp.up_proj"));
}

}  // namespace
}  // namespace tsubu
