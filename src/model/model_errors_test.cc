// What Model::open refuses, and that the message says where, what was expected and what was found.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "container/test_bytes.h"
#include "model/model.h"
#include "model/test_models.h"

namespace tsubu {
namespace {

// The message when a changed tiny Llama is opened.
std::string refusal(const std::function<void(TinyModel&)>& change, ExitCode code = ExitCode::kBadInput) {
  TinyModel tiny = tiny_llama();
  change(tiny);
  const TemporaryFolder folder;
  tiny.write(folder.path().string());
  return error_of([&] { (void)Model::open(folder.path().string()); }, code);
}

void expect_all(const std::string& message, std::initializer_list<std::string_view> parts) {
  for (std::string_view part : parts) EXPECT_NE(message.find(part), std::string::npos) << part << " in: " << message;
}

TEST(ModelErrors, MissingTensorIsNamedInBothWorlds) {
  expect_all(refusal([](TinyModel& m) { m.remove("model.layers.1.mlp.up_proj.weight"); }),
             {"model.layers.1.mlp.up_proj.weight", "blk.1.ffn_up.weight", "missing"});
  expect_all(refusal([](TinyModel& m) { m.remove("lm_head.weight"); }), {"lm_head.weight", "tie_word_embeddings"});
}

TEST(ModelErrors, WrongShape) {
  expect_all(refusal([](TinyModel& m) { m.config["intermediate_size"] = 32; }),
             {"mlp.gate_proj.weight", "(32, 16)", "(24, 16)", "model.safetensors"});
  expect_all(refusal([](TinyModel& m) { m.config["num_attention_heads"] = 8; }), {"q_proj", "(32, 16)", "(16, 16)"});
}

TEST(ModelErrors, TransposedShapesAreNotConfused) {
  TinyModel tiny = tiny_gpt2();
  std::swap(tiny.tensor("transformer.h.0.mlp.c_fc.weight").shape[0],
            tiny.tensor("transformer.h.0.mlp.c_fc.weight").shape[1]);
  const TemporaryFolder folder;
  tiny.write(folder.path().string());
  expect_all(error_of([&] { (void)Model::open(folder.path().string()); }), {"c_fc", "(16, 24)", "(24, 16)"});
}

TEST(ModelErrors, VocabularyAgainstEmbedding) {
  expect_all(refusal([](TinyModel& m) { m.config["vocab_size"] = 261; }), {"embed_tokens", "260", "261", "vocab_size"});
  // More tokens than rows.
  refusal([](TinyModel& m) {
    m.config["vocab_size"] = 200;
    for (const char* name : {"model.embed_tokens.weight", "lm_head.weight"}) {
      m.tensor(name).shape[0] = 200;
      m.tensor(name).values.resize(200 * kTinyEmbd);
    }
  });
}

TEST(ModelErrors, UnknownArchitectureListsTheKnownOnes) {
  expect_all(refusal([](TinyModel& m) { m.config["architectures"] = {"RwkvForCausalLM"}; }, ExitCode::kUnsupported),
             {"RwkvForCausalLM", "LlamaForCausalLM", "Qwen3ForCausalLM", "GPT2LMHeadModel"});
  const auto without_list = [](TinyModel& m, const Json& type) {
    m.config.erase("architectures");
    m.config["model_type"] = type;
  };
  expect_all(refusal([&](TinyModel& m) { without_list(m, nullptr); }), {"architectures", "model_type", "missing"});
  expect_all(refusal([&](TinyModel& m) { without_list(m, "rwkv"); }, ExitCode::kUnsupported),
             {"model_type \"rwkv\"", "LlamaForCausalLM"});
  expect_all(refusal([&](TinyModel& m) { without_list(m, 7); }), {"model_type"});
  refusal([](TinyModel& m) { m.config["architectures"] = "LlamaForCausalLM"; });
  refusal([](TinyModel& m) { m.config["architectures"] = {1}; });
}

TEST(ModelErrors, QuantizedOrExoticCheckpoints) {
  expect_all(refusal([](TinyModel& m) { m.tensor("model.layers.0.mlp.up_proj.weight").dtype = SafeDtype::kF8E4M3; },
                     ExitCode::kUnsupported),
             {"up_proj", "F8_E4M3", "BF16"});
  for (const char* key : {"rope_scaling", "rope_parameters"})
    refusal(
        [&](TinyModel& m) {
          m.config[key] = {{"rope_type", "longrope"}, {"factor", 2.0}};
        },
        ExitCode::kUnsupported);
  refusal([](TinyModel& m) { m.config["hidden_act"] = "gelu"; }, ExitCode::kUnsupported);
  refusal([](TinyModel& m) { m.config["partial_rotary_factor"] = 0.5; }, ExitCode::kUnsupported);
}

TEST(ModelErrors, MissingShard) {
  const TemporaryFolder folder;
  tiny_llama().write(folder.path().string(), 3);
  std::filesystem::remove(folder / "model-00002-of-00003.safetensors");
  try {
    (void)Model::open(folder.path().string());
    FAIL();
  } catch (const Error& e) {
    expect_all(e.what(), {"model-00002-of-00003.safetensors"});
  }
}

TEST(ModelErrors, PathsThatAreNoModel) {
  const TemporaryFolder folder;
  tiny_llama().write(folder.path().string());
  expect_all(error_of([&] { (void)Model::open(folder / "model.safetensors"); }, ExitCode::kUsage),
             {"directory", folder.path().string()});
  error_of([&] { (void)Model::open(folder / "config.json"); }, ExitCode::kUsage);
  error_of([&] { (void)Model::open(folder / "nothing"); }, ExitCode::kIo);
  write_text_file(folder / "pytorch_model.bin", "x");
  expect_all(error_of([&] { (void)Model::open(folder / "pytorch_model.bin"); }, ExitCode::kUnsupported), {"pickle"});
  write_text_file(folder / "x.gguf", "not a GGUF file at all, but long enough to hold a header");
  error_of([&] { (void)Model::open(folder / "x.gguf"); });
}

// A GGUF file of the tiny Llama, changed before it is written.
struct GgufDraft {
  GgufMetadata metadata;
  std::vector<std::pair<std::string, std::vector<uint64_t>>> tensors;
};

std::string gguf_refusal(const std::function<void(GgufDraft&)>& change, ExitCode code = ExitCode::kBadInput) {
  const TemporaryFolder folder;
  tiny_llama().write(folder.path().string());
  const auto model = Model::open(folder.path().string());
  GgufDraft draft;
  draft.metadata = model->gguf_metadata();
  for (const ModelTensor& t : model->tensors()) draft.tensors.emplace_back(t.name(), t.spec().shape);
  change(draft);
  GgufWriter writer(folder / "a.gguf");
  for (const auto& [key, value] : draft.metadata.items()) writer.metadata().set(key, value);
  for (const auto& [name, shape] : draft.tensors) writer.declare(name, shape, type_named("F32"));
  writer.begin_data();
  for (const auto& [name, shape] : draft.tensors) {
    uint64_t n = 1;
    for (uint64_t d : shape) n *= d;
    writer.write(std::vector<std::byte>(n * sizeof(float)));
  }
  writer.commit();
  return error_of([&] { (void)Model::open(folder / "a.gguf"); }, code);
}

TEST(ModelErrors, Gguf) {
  expect_all(gguf_refusal([](GgufDraft& d) { d.metadata.set("general.architecture", GgufValue::string("rwkv7")); },
                          ExitCode::kUnsupported),
             {"rwkv7", "llama", "qwen3"});
  gguf_refusal([](GgufDraft& d) { d.metadata.erase("general.architecture"); });
  expect_all(gguf_refusal([](GgufDraft& d) { d.metadata.erase("llama.block_count"); }),
             {"llama.block_count", "missing"});
  expect_all(gguf_refusal([](GgufDraft& d) { d.metadata.set("llama.block_count", GgufValue::u32(1000000000)); }),
             {"llama.block_count", "4096", "1000000000"});
  expect_all(gguf_refusal([](GgufDraft& d) { d.metadata.set("llama.embedding_length", GgufValue::string("16")); }),
             {"llama.embedding_length"});
  gguf_refusal([](GgufDraft& d) { d.metadata.set("llama.rope.freq_base", GgufValue::f32(std::nanf(""))); });
  gguf_refusal([](GgufDraft& d) { d.metadata.set("llama.attention.head_count_kv", GgufValue::u32(0)); });
  gguf_refusal([](GgufDraft& d) { d.metadata.set("llama.attention.head_count_kv", GgufValue::u32(3)); });
  expect_all(gguf_refusal([](GgufDraft& d) { d.metadata.set("llama.expert_count", GgufValue::u32(8)); }),
             {"llama.expert_used_count", "missing"});
  expect_all(gguf_refusal([](GgufDraft& d) {
               d.metadata.set("llama.expert_count", GgufValue::u32(4));
               d.metadata.set("llama.expert_used_count", GgufValue::u32(5));
             }),
             {"5 of 4 experts"});
  expect_all(gguf_refusal([](GgufDraft& d) {
               d.metadata.set("llama.expert_count", GgufValue::u32(4));
               d.metadata.set("llama.expert_used_count", GgufValue::u32(2));
             }),
             {"blk.0.ffn_gate_inp.weight", "missing"});
  gguf_refusal([](GgufDraft& d) { d.metadata.set("llama.rope.dimension_count", GgufValue::u32(2)); },
               ExitCode::kUnsupported);
  gguf_refusal([](GgufDraft& d) { d.metadata.set("general.type", GgufValue::string("adapter")); },
               ExitCode::kUnsupported);
  expect_all(
      gguf_refusal([](GgufDraft& d) { d.metadata.set("llama.rope.scaling.type", GgufValue::string("longrope")); }),
      {"rope_factors_long.weight", "missing"});
  gguf_refusal([](GgufDraft& d) { d.metadata.set("llama.rope.scaling.type", GgufValue::string("spiral")); },
               ExitCode::kUnsupported);
  expect_all(gguf_refusal([](GgufDraft& d) {
               d.tensors.emplace_back("rope_factors_long.weight", std::vector<uint64_t>{2});
             }),
             {"rope_factors_long.weight"});
  expect_all(gguf_refusal([](GgufDraft& d) {
               std::erase_if(d.tensors, [](auto& t) { return t.first == "blk.1.attn_k.weight"; });
             }),
             {"blk.1.attn_k.weight", "missing"});
  expect_all(gguf_refusal([](GgufDraft& d) {
               for (auto& [name, shape] : d.tensors)
                 if (name == "blk.1.attn_k.weight") shape = {16, 8};
             }),
             {"blk.1.attn_k.weight", "(8, 16)", "(16, 8)"});
  expect_all(gguf_refusal([](GgufDraft& d) {
               for (auto& [name, shape] : d.tensors)
                 if (name == "token_embd.weight") shape[0] = 256;
             }),
             {"260", "256", "token_embd.weight"});
  // Factors of the wrong length, and factors that are 0.
  gguf_refusal([](GgufDraft& d) { d.tensors.emplace_back("rope_freqs.weight", std::vector<uint64_t>{3}); });
  gguf_refusal([](GgufDraft& d) { d.tensors.emplace_back("rope_freqs.weight", std::vector<uint64_t>{2}); });
  gguf_refusal([](GgufDraft& d) { d.tensors.clear(); });
}

TEST(ModelErrors, Experts) {
  const auto refusal = [](const std::function<void(TinyModel&)>& change) {
    TinyModel tiny = tiny_mixtral();
    change(tiny);
    const TemporaryFolder folder;
    tiny.write(folder.path().string());
    return error_of([&] { (void)Model::open(folder.path().string()); });
  };
  const std::string name = "model.layers.1.block_sparse_moe.experts.3.w2.weight";
  expect_all(refusal([&](TinyModel& m) { m.remove(name); }), {name, "blk.1.ffn_down_exps.weight", "missing"});
  expect_all(refusal([&](TinyModel& m) { m.tensor(name).shape = {24, 16}; }), {name, "(16, 24)", "(24, 16)"});
  expect_all(refusal([](TinyModel& m) { m.config["num_local_experts"] = 5; }), {"block_sparse_moe.gate.weight", "(5, 16)"});
}

TEST(ModelErrors, UnknownTensorsAreLeftOutWithOneWarning) {
  TinyModel tiny = tiny_llama();
  tiny.add("model.layers.0.self_attn.sink", {4});
  tiny.add("vision.patch.weight", {4, 4});
  const TemporaryFolder folder;
  tiny.write(folder.path().string());
  ::testing::internal::CaptureStderr();
  const auto model = Model::open(folder.path().string());
  const std::string shown = ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(model->tensors().size(), tiny.tensors.size() - 2);
  expect_all(shown, {"2 tensor(s)", "vision.patch.weight", "self_attn.sink"});
  EXPECT_EQ(std::count(shown.begin(), shown.end(), '\n'), 1);
}

}  // namespace
}  // namespace tsubu
