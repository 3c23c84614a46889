// Adapters in both files: names, shapes and row order as PEFT and llama.cpp have them, from the conventions of those tools.
#include "model/adapter.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <random>

#include "base/error.h"
#include "base/file.h"
#include "container/test_bytes.h"
#include "model/test_models.h"

namespace tsubu {
namespace {

namespace fs = std::filesystem;

struct Opened {
  explicit Opened(TinyModel (*make)()) : tiny(make()) {
    tiny.write(folder.path().string());
    model = Model::open(folder.path().string());
  }
  TinyModel tiny;
  TemporaryFolder folder;
  std::unique_ptr<Model> model;
};

Adapter random_adapter(const Model& model, size_t rank) {
  Adapter adapter;
  std::mt19937 random(9);
  std::normal_distribution<float> normal;
  std::vector<std::string> names = adaptable_tensors(model);
  for (const std::string& name : adaptable_experts(model)) names.push_back(name);
  for (const std::string& name : names) {
    const ModelTensor& t = model.tensor(name);
    auto r = std::make_shared<LowRank>();
    *r = {t.n_rows(), t.n_cols(), rank, 2.0f, {}, {}};
    for (size_t i = 0; i < t.n_matrices() * rank * r->n_cols; ++i) r->a.push_back(normal(random));
    for (size_t i = 0; i < rank * r->n_rows; ++i) r->b.push_back(normal(random));
    adapter.tensors[name] = r;
  }
  return adapter;
}

void expect_same(const Adapter& a, const Adapter& b) {
  ASSERT_EQ(a.tensors.size(), b.tensors.size());
  for (const auto& [name, r] : a.tensors) {
    ASSERT_TRUE(b.tensors.contains(name)) << name;
    const LowRank& other = *b.tensors.find(name)->second;
    EXPECT_EQ(r->a, other.a) << name;
    EXPECT_EQ(r->b, other.b) << name;
    EXPECT_EQ(r->scale, other.scale) << name;
  }
}

struct Case {
  const char* name;
  TinyModel (*make)();
};
class AdapterOfEveryArchitecture : public ::testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Model, AdapterOfEveryArchitecture,
                         ::testing::Values(Case{"llama", tiny_llama}, Case{"qwen2", tiny_qwen2}, Case{"qwen3", tiny_qwen3},
                                           Case{"gpt2", tiny_gpt2}, Case{"gemma2", tiny_gemma2}, Case{"gemma3", tiny_gemma3},
                                           Case{"phi3", tiny_phi3}, Case{"mixtral", tiny_mixtral}, Case{"opt", tiny_opt},
                                           Case{"bloom", tiny_bloom}, Case{"gptneox", tiny_gptneox}),
                         [](const auto& p) { return std::string(p.param.name); });

TEST_P(AdapterOfEveryArchitecture, BothFilesReadBackAsTheyWere) {
  const Opened o(GetParam().make);
  const Adapter adapter = random_adapter(*o.model, 4);
  ASSERT_FALSE(adapter.tensors.empty());
  const TemporaryFolder out;
  for (const char* name : {"peft", "adapter.gguf"}) {
    const std::string path = (out.path() / name).string();
    write_adapter(path, *o.model, adapter, {"base", 8, 4});
    expect_same(adapter, read_adapter(path, *o.model));
  }
}

// In the order of the Hugging Face checkpoint: row s of W_hf + scale · B_hf A is row s of what clients compute with.
TEST_P(AdapterOfEveryArchitecture, PeftsRowsAreTheCheckpoints) {
  const Opened o(GetParam().make);
  Adapter adapter = random_adapter(*o.model, 4);
  std::erase_if(adapter.tensors, [&](const auto& item) { return o.model->tensor(item.first).n_matrices() > 1; });
  const TemporaryFolder out;
  const std::string path = (out.path() / "peft").string();
  write_adapter(path, *o.model, adapter, {"base", 8, 4});
  const SafetensorsFile file = SafetensorsFile::open(path + "/adapter_model.safetensors");
  EXPECT_EQ(file.tensors().size(), 2 * adapter.tensors.size());
  const auto adapted = Model::open(o.folder.path().string());
  add_adapter(*adapted, adapter);
  for (const auto& [name, r] : adapter.tensors) {
    const ModelTensor &plain = o.model->tensor(name), &with = adapted->tensor(name);
    const std::string module = "base_model.model." + plain.spec().hf_name.substr(0, plain.spec().hf_name.rfind('.'));
    const SafeTensor *a = file.find(module + ".lora_A.weight"), *b = file.find(module + ".lora_B.weight");
    ASSERT_TRUE(a && b) << module;
    EXPECT_EQ(a->shape, (std::vector<uint64_t>{4, plain.n_cols()}));
    EXPECT_EQ(b->shape, (std::vector<uint64_t>{plain.n_rows(), 4}));
    EXPECT_EQ(a->dtype, SafeDtype::kF32);
    const auto* av = reinterpret_cast<const float*>(a->data.data());
    const auto* bv = reinterpret_cast<const float*>(b->data.data());
    std::vector<float> x(plain.n_elements()), y(plain.n_elements());
    plain.read_source_rows(0, plain.n_rows(), x.data());
    with.read_source_rows(0, with.n_rows(), y.data());
    for (size_t row = 0; row < plain.n_rows(); ++row)
      for (size_t c = 0; c < plain.n_cols(); ++c) {
        double want = static_cast<double>(x[row * plain.n_cols() + c]), size = std::fabs(want);
        for (size_t k = 0; k < 4; ++k) {
          const double part = 2.0 * static_cast<double>(bv[row * 4 + k]) * static_cast<double>(av[k * plain.n_cols() + c]);
          want += part;
          size += std::fabs(part);
        }
        // Three roundings for each of four parts.
        ASSERT_NEAR(static_cast<double>(y[row * plain.n_cols() + c]), want, 12 * 0x1p-24 * size) << name;
      }
    EXPECT_TRUE(with.raw().empty());
    EXPECT_EQ(with.quantized(), nullptr);
  }
}

// A module for each expert in PEFT's files, one tensor of three dimensions in llama.cpp's; every expert's rows have its own addition.
TEST(Adapter, ExpertsHaveAdaptersOfTheirOwn) {
  const Opened o(tiny_mixtral);
  EXPECT_EQ(targeted_tensors(*o.model, "experts"), adaptable_experts(*o.model));
  EXPECT_EQ(targeted_tensors(*o.model, "w1+w3"), targeted_tensors(*o.model, "ffn_gate_exps+ffn_up_exps"));
  EXPECT_EQ(3 * targeted_tensors(*o.model, "w1+w3").size(), 2 * adaptable_experts(*o.model).size());
  EXPECT_EQ(targeted_tensors(*o.model, "all"), adaptable_tensors(*o.model));
  Adapter adapter = random_adapter(*o.model, 4);
  std::erase_if(adapter.tensors, [&](const auto& item) { return o.model->tensor(item.first).n_matrices() == 1; });
  ASSERT_FALSE(adapter.tensors.empty());
  const TemporaryFolder out;
  const std::string path = (out.path() / "peft").string(), gguf = (out.path() / "a.gguf").string();
  write_adapter(path, *o.model, adapter, {"base", 8, 4});
  write_adapter(gguf, *o.model, adapter, {"base", 8, 4});
  const Json config = parse_json(read_text_file(path + "/adapter_config.json"), path);
  EXPECT_EQ(config["target_modules"], (Json{"w1", "w2", "w3"}));
  const SafetensorsFile file = SafetensorsFile::open(path + "/adapter_model.safetensors");
  const GgufFile stacks = GgufFile::open(gguf);
  const auto adapted = Model::open(o.folder.path().string());
  add_adapter(*adapted, adapter);
  for (const auto& [name, r] : adapter.tensors) {
    const ModelTensor &plain = o.model->tensor(name), &with = adapted->tensor(name);
    const uint64_t n = plain.n_matrices(), rows = plain.n_rows() / n, cols = plain.n_cols();
    EXPECT_EQ(stacks.find(name + ".lora_a")->shape, (std::vector<uint64_t>{n, 4, cols}));
    EXPECT_EQ(stacks.find(name + ".lora_b")->shape, (std::vector<uint64_t>{n, rows, 4}));
    for (uint64_t e = 0; e < n; ++e) {
      const std::string& part = plain.spec().hf_parts[e];
      EXPECT_NE(part.find(".experts." + std::to_string(e) + ".w"), std::string::npos);
      const std::string module = "base_model.model." + part.substr(0, part.rfind('.'));
      const SafeTensor *a = file.find(module + ".lora_A.weight"), *b = file.find(module + ".lora_B.weight");
      ASSERT_TRUE(a && b) << module;
      EXPECT_EQ(a->shape, (std::vector<uint64_t>{4, cols}));
      EXPECT_EQ(b->shape, (std::vector<uint64_t>{rows, 4}));
      LowRank own{rows, cols, 4, r->scale, std::vector<float>(4 * cols), std::vector<float>(rows * 4)};
      std::memcpy(own.a.data(), a->data.data(), a->data.size());
      std::memcpy(own.b.data(), b->data.data(), b->data.size());
      std::vector<float> want(rows * cols), found(rows * cols), view(rows * cols);
      plain.read_rows(e * rows, rows, want.data());
      own.add_rows(0, rows, want.data());
      with.read_rows(e * rows, rows, found.data());
      with.matrix(e).read_rows(0, rows, view.data());
      EXPECT_EQ(found, want) << part;
      EXPECT_EQ(view, want) << part;
    }
    EXPECT_TRUE(with.raw().empty());
    LowRank short_one = *r;
    short_one.a.pop_back();
    EXPECT_THROW(plain.with_low_rank(std::make_shared<LowRank>(short_one)), Error);
  }
}

TEST(Adapter, ConfigSaysWhatPeftNeeds) {
  const Opened llama(tiny_llama), gpt2(tiny_gpt2);
  const TemporaryFolder out;
  const std::string path = (out.path() / "a").string(), other = (out.path() / "b").string();
  write_adapter(path, *llama.model, random_adapter(*llama.model, 4), {"some/base", 8, 4});
  const Json config = parse_json(read_text_file(path + "/adapter_config.json"), path);
  EXPECT_EQ(config["peft_type"], "LORA");
  EXPECT_EQ(config["task_type"], "CAUSAL_LM");
  EXPECT_EQ(config["base_model_name_or_path"], "some/base");
  EXPECT_EQ(config["r"], 4);
  EXPECT_EQ(config["lora_alpha"], 8);
  EXPECT_EQ(config["fan_in_fan_out"], false);
  EXPECT_EQ(config["target_modules"],
            (Json{"down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"}));
  // GPT-2's matrices are transposed, and two of them have the same last name.
  Adapter one = random_adapter(*gpt2.model, 4);
  std::erase_if(one.tensors, [](const auto& item) { return !item.first.ends_with("attn_output.weight"); });
  write_adapter(other, *gpt2.model, one, {"gpt2", 8, 4});
  const Json second = parse_json(read_text_file(other + "/adapter_config.json"), other);
  EXPECT_EQ(second["fan_in_fan_out"], true);
  EXPECT_EQ(second["target_modules"], Json{"attn.c_proj"});
}

TEST(Adapter, GgufHasLlamaCppsNames) {
  const Opened o(tiny_llama);
  const TemporaryFolder out;
  const std::string path = (out.path() / "a.gguf").string();
  const Adapter adapter = random_adapter(*o.model, 4);
  write_adapter(path, *o.model, adapter, {"base", 8, 4});
  const GgufFile file = GgufFile::open(path);
  EXPECT_EQ(*file.metadata().find("general.type")->as_string(), "adapter");
  EXPECT_EQ(*file.metadata().find("general.architecture")->as_string(), "llama");
  EXPECT_EQ(*file.metadata().find("adapter.type")->as_string(), "lora");
  EXPECT_EQ(file.metadata().find("adapter.lora.alpha")->type, GgufValueType::kF32);
  EXPECT_EQ(file.metadata().find("adapter.lora.alpha")->as_number(), 8.0);
  const GgufTensor *a = file.find("blk.0.attn_q.weight.lora_a"), *b = file.find("blk.0.attn_q.weight.lora_b");
  ASSERT_TRUE(a && b);
  EXPECT_EQ(a->shape, (std::vector<uint64_t>{4, kTinyEmbd}));
  EXPECT_EQ(b->shape, (std::vector<uint64_t>{kTinyEmbd, 4}));
  EXPECT_THROW(Model::open(path), Error);
}

// What is there and no plain LoRA of this model is refused, with its name.
TEST(Adapter, RefusesWhatItCannotApply) {
  const Opened o(tiny_llama), other(tiny_qwen3);
  const TemporaryFolder out;
  const std::string path = (out.path() / "a").string(), gguf = (out.path() / "a.gguf").string();
  write_adapter(path, *o.model, random_adapter(*o.model, 4), {"base", 8, 4});
  write_adapter(gguf, *o.model, random_adapter(*o.model, 4), {"base", 8, 4});
  const std::string config_path = path + "/adapter_config.json";
  const Json good = parse_json(read_text_file(config_path), config_path);
  const auto refused = [&](const char* key, const Json& value, ExitCode code, const std::string& said) {
    Json config = good;
    config[key] = value;
    write_text_file(config_path, dump_json(config));
    try {
      read_adapter(path, *o.model);
      ADD_FAILURE() << key;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), code) << e.what();
      EXPECT_NE(std::string(e.what()).find(said), std::string::npos) << e.what();
    }
    write_text_file(config_path, dump_json(good));
  };
  refused("use_dora", true, ExitCode::kUnsupported, "use_dora");
  refused("peft_type", "IA3", ExitCode::kUnsupported, "IA3");
  refused("modules_to_save", {"lm_head"}, ExitCode::kUnsupported, "modules_to_save");
  refused("lora_alpha", "much", ExitCode::kBadInput, "lora_alpha");
  refused("bias", "all", ExitCode::kUnsupported, "bias");
  for (const std::string& p : {path, gguf})
    try {
      read_adapter(p, *other.model);
      ADD_FAILURE() << p;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::kBadInput) << e.what();
    }
  fs::remove(path + "/adapter_model.safetensors");
  EXPECT_THROW(read_adapter(path, *o.model), Error);
  EXPECT_THROW(read_adapter((out.path() / "none").string(), *o.model), Error);
}

TEST(Adapter, RootScaleAndStatesAsTheyAreInMemory) {
  const Opened o(tiny_llama);
  const TemporaryFolder out;
  const std::string path = (out.path() / "a").string(), config_path = path + "/adapter_config.json";
  write_adapter(path, *o.model, random_adapter(*o.model, 4), {"base", 8, 4});
  Json config = parse_json(read_text_file(config_path), config_path);
  config["use_rslora"] = true;
  write_text_file(config_path, dump_json(config));
  EXPECT_EQ(read_adapter(path, *o.model).tensors.begin()->second->scale, 4.0f);  // 8 / √4
}

}  // namespace
}  // namespace tsubu
