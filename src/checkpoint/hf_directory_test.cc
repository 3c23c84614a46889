// Hugging Face directories: what is opened, what is refused and why.
#include "checkpoint/hf_directory.h"

#include "container/test_bytes.h"

namespace tsubu {
namespace {

void write_weights(const std::string& path, SafeDtype dtype = SafeDtype::kF32) {
  SafetensorsWriter writer(path);
  writer.declare("w", dtype, {2});
  writer.begin_data();
  writer.write(std::vector<std::byte>(safe_dtype_bits(dtype) / 4));
  writer.commit();
}

std::string refusal(const TemporaryFolder& folder, ExitCode code) {
  return error_of([&] { (void)HfDirectory::open(folder.path().string()); }, code);
}

TEST(HfDirectory, Opens) {
  const TemporaryFolder folder;
  write_weights(folder / "model.safetensors");
  write_text_file(folder / "config.json", R"({"architectures": ["A", "B"], "quantization_config": null})");
  const HfDirectory directory = HfDirectory::open(folder.path().string());
  EXPECT_EQ(directory.architectures, (std::vector<std::string>{"A", "B"}));
  EXPECT_EQ(directory.weights.tensors().size(), 1u);
  EXPECT_EQ(directory.model_name(), folder.path().filename().string());
}

TEST(HfDirectory, NameOfAHubSnapshot) {
  const TemporaryFolder folder;
  HfDirectory directory;
  directory.path = folder / "models--org--some-name/snapshots/0123abcd";
  std::filesystem::create_directories(directory.path);
  EXPECT_EQ(directory.model_name(), "org/some-name");
}

TEST(HfDirectory, RefusesPicklesWithTheReason) {
  const TemporaryFolder folder;
  write_text_file(folder / "config.json", "{}");
  EXPECT_NE(refusal(folder, ExitCode::kBadInput).find("no weights"), std::string::npos);
  write_text_file(folder / "pytorch_model.bin", "x");
  const std::string message = refusal(folder, ExitCode::kUnsupported);
  EXPECT_NE(message.find("pytorch_model.bin"), std::string::npos);
  EXPECT_NE(message.find("safetensors"), std::string::npos);
  write_weights(folder / "model-00001-of-00002.safetensors");
  EXPECT_NE(refusal(folder, ExitCode::kBadInput).find("index"), std::string::npos);
}

TEST(HfDirectory, MethodOfAQuantizedCheckpoint) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"quantization_config": {"quant_method": "AWQ"}})", "awq"},
      {R"({"quantization_config": {"quant_algo": "NVFP4"}})", "modelopt"},
      {R"({"quantization_config": {"load_in_4bit": true}})", "bitsandbytes"},
      {R"({"quantization_config": {"w_bit": 4, "version": "GEMM"}})", "awq"},
      {R"({"compression_config": {"quant_method": "compressed-tensors"}})", "compressed-tensors"},
      {R"({"quantization_config": null})", ""},
  };
  for (const auto& [config, method] : cases) {
    const TemporaryFolder folder;
    write_weights(folder / "model.safetensors");
    write_text_file(folder / "config.json", config);
    EXPECT_EQ(HfDirectory::open(folder.path().string()).quantization.method, method) << config;
  }
  const TemporaryFolder folder;
  write_weights(folder / "model.safetensors");
  write_text_file(folder / "config.json", "{}");
  write_text_file(folder / "hf_quant_config.json", "{}");
  EXPECT_EQ(HfDirectory::open(folder.path().string()).quantization.method, "modelopt");
  write_text_file(folder / "quantize_config.json", R"({"bits": 4, "group_size": 128, "sym": true})");
  EXPECT_EQ(HfDirectory::open(folder.path().string()).quantization.method, "gptq");
  write_text_file(folder / "config.json", R"({"quantization_config": 1})");
  EXPECT_NE(refusal(folder, ExitCode::kBadInput).find("quantization_config: expected a JSON object"), std::string::npos);
}

TEST(HfDirectory, BadConfigs) {
  for (const char* config : {"", "[]", "{\"architectures\": 3}", "{\"architectures\": [{}]}", "{\"a\": NaN}", "{"}) {
    const TemporaryFolder folder;
    write_weights(folder / "model.safetensors");
    write_text_file(folder / "config.json", config);
    EXPECT_NE(refusal(folder, ExitCode::kBadInput).find("config.json"), std::string::npos) << config;
  }
  const TemporaryFolder folder;
  EXPECT_NE(refusal(folder, ExitCode::kBadInput).find("no config.json"), std::string::npos);
  write_text_file(folder / "a.gguf", "x");
  EXPECT_NE(refusal(folder, ExitCode::kBadInput).find("a.gguf"), std::string::npos);
}

TEST(HfDirectory, Dtypes) {
  SafeTensor tensor;
  tensor.name = "w";
  for (SafeDtype dtype : {SafeDtype::kF32, SafeDtype::kF16, SafeDtype::kBF16}) {
    tensor.dtype = dtype;
    EXPECT_EQ(type_of_tensor(tensor, "f").name, safe_dtype_name(dtype));
  }
  for (SafeDtype dtype : {SafeDtype::kF8E4M3, SafeDtype::kF64, SafeDtype::kI8, SafeDtype::kBool}) {
    tensor.dtype = dtype;
    EXPECT_NE(error_of([&] { (void)type_of_tensor(tensor, "f"); }, ExitCode::kUnsupported).find(safe_dtype_name(dtype)),
              std::string::npos);
  }
}

}  // namespace
}  // namespace tsubu
