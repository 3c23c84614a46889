// Model::open on Hugging Face directories and GGUF files: names, shapes, row order, metadata, and that both layouts of
// one model are the same model.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "container/test_bytes.h"
#include "model/model.h"
#include "model/test_models.h"

namespace tsubu {
namespace {

std::vector<float> all_rows(const ModelTensor& tensor) {
  std::vector<float> values(tensor.n_elements());
  tensor.read_rows(0, tensor.n_rows(), values.data());
  return values;
}

std::unique_ptr<Model> open_tiny(const TinyModel& tiny, const TemporaryFolder& folder, int n_shards = 1) {
  tiny.write(folder.path().string(), n_shards);
  return Model::open(folder.path().string());
}

void write_gguf(const Model& model, const std::string& path, const TypeInfo* type = nullptr) {
  GgufWriter writer(path);
  for (const auto& [key, value] : model.gguf_metadata().items()) writer.metadata().set(key, value);
  for (const ModelTensor& t : model.tensors())
    writer.declare(t.name(), t.spec().shape, type && t.spec().quantizable ? *type : type_named("F32"));
  writer.begin_data();
  for (const ModelTensor& t : model.tensors()) {
    const std::vector<float> values = all_rows(t);
    if (!type || !t.spec().quantizable) {
      writer.write(std::as_bytes(std::span(values)));
      continue;
    }
    std::vector<std::byte> row(t.n_cols() / type->block_len * type->block_bytes);
    for (uint64_t r = 0; r < t.n_rows(); ++r) {
      type->encode(values.data() + r * t.n_cols(), nullptr, row.data(), t.n_cols());
      writer.write(row);
    }
  }
  writer.commit();
}

struct Case {
  const char* name;
  TinyModel (*make)();
  const char* architecture = name;
  const char* model_type = architecture;
};
class EveryArchitecture : public ::testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Model, EveryArchitecture,
                         ::testing::Values(Case{"llama", tiny_llama}, Case{"qwen2", tiny_qwen2},
                                           Case{"qwen3", tiny_qwen3}, Case{"gpt2", tiny_gpt2},
                                           Case{"gemma2", tiny_gemma2}, Case{"gemma3", tiny_gemma3},
                                           Case{"phi3", tiny_phi3}, Case{"mixtral", tiny_mixtral, "llama", "mixtral"},
                                           Case{"qwen3moe", tiny_qwen3moe, "qwen3moe", "qwen3_moe"},
                                           Case{"opt", tiny_opt}, Case{"bloom", tiny_bloom},
                                           Case{"gptneox", tiny_gptneox, "gptneox", "gpt_neox"},
                                           Case{"gpt_oss", tiny_gpt_oss, "gpt-oss", "gpt_oss"},
                                           Case{"deepseek2", tiny_deepseek2, "deepseek2", "deepseek_v2"},
                                           Case{"deepseek3", tiny_deepseek3, "deepseek2", "deepseek_v3"}),
                         [](const auto& param) { return param.param.name; });

TEST(EveryArchitectureCovered, TheListHasNoOther) { EXPECT_EQ(architectures().size(), 13u); }

TEST_P(EveryArchitecture, DtypesAndShardsGiveTheSameValues) {
  TinyModel tiny = GetParam().make();
  const TemporaryFolder plain_folder;
  const auto plain = open_tiny(tiny, plain_folder);
  EXPECT_EQ(plain->architecture().name(), GetParam().architecture);
  EXPECT_EQ(plain->layout(), "hf");
  uint64_t n_values = 0;
  for (const TinyTensor& t : tiny.tensors) n_values += t.values.size();
  uint64_t n_computed = 0;
  for (const ModelTensor& t : plain->tensors()) n_computed += t.spec().computed.size();
  EXPECT_EQ(plain->n_parameters(), n_values + n_computed);
  for (SafeDtype dtype : {SafeDtype::kF16, SafeDtype::kBF16}) {
    tiny.set_dtype(dtype);
    const TemporaryFolder folder;
    const auto other = open_tiny(tiny, folder, 3);
    EXPECT_EQ(other->files().size(), 3u);
    EXPECT_EQ(other->weight_bytes() * 2, plain->weight_bytes() + 4 * n_computed);
    ASSERT_EQ(other->tensors().size(), plain->tensors().size());
    for (const ModelTensor& t : plain->tensors()) {
      if (t.spec().computed.empty()) {
        EXPECT_EQ(other->tensor(t.name()).type().name, safe_dtype_name(dtype));
      }
      EXPECT_EQ(all_rows(other->tensor(t.name())), all_rows(t)) << t.name();
    }
  }
}

TEST_P(EveryArchitecture, ModelTypeStandsInForTheListOfArchitectures) {
  TinyModel tiny = GetParam().make();
  tiny.config.erase("architectures");
  tiny.config["model_type"] = GetParam().model_type;
  const TemporaryFolder folder;
  EXPECT_EQ(open_tiny(tiny, folder)->architecture().name(), GetParam().architecture);
}

TEST_P(EveryArchitecture, RowsOneByOneAreTheRows) {
  const TemporaryFolder folder;
  const auto model = open_tiny(GetParam().make(), folder);
  for (const ModelTensor& t : model->tensors()) {
    const std::vector<float> all = all_rows(t);
    std::vector<float> row(t.n_cols());
    for (uint64_t r = 0; r < t.n_rows(); ++r) {
      t.read_rows(r, 1, row.data());
      ASSERT_TRUE(std::equal(row.begin(), row.end(), all.begin() + static_cast<ptrdiff_t>(r * t.n_cols()))) << t.name();
      t.release_rows(r, 1);
    }
    t.release_rows(0, t.n_rows());
    EXPECT_EQ(all_rows(t), all) << t.name();
    EXPECT_THROW(t.read_rows(t.n_rows(), 1, row.data()), Error);
  }
}

// Directory → GGUF → the same model, metadata verbatim, and once more → the same file.
TEST_P(EveryArchitecture, GgufOfTheDirectoryIsTheSameModel) {
  const TemporaryFolder folder;
  const auto hf = open_tiny(GetParam().make(), folder);
  write_gguf(*hf, folder / "a.gguf");
  const auto gguf = Model::open(folder / "a.gguf");
  EXPECT_EQ(gguf->layout(), "gguf");
  ASSERT_EQ(gguf->tensors().size(), hf->tensors().size());
  for (size_t i = 0; i < hf->tensors().size(); ++i) {
    const ModelTensor &a = hf->tensors()[i], &b = gguf->tensors()[i];
    EXPECT_EQ(a.name(), b.name());
    EXPECT_EQ(a.spec().shape, b.spec().shape);
    EXPECT_EQ(a.spec().role, b.spec().role);
    EXPECT_EQ(all_rows(a), all_rows(b)) << a.name();
  }
  const Hparams &a = hf->hparams(), &b = gguf->hparams();
  EXPECT_EQ(a.n_layers, b.n_layers);
  EXPECT_EQ(a.n_vocab, b.n_vocab);
  EXPECT_EQ(a.head_dim, b.head_dim);
  EXPECT_EQ(a.n_kv_heads, b.n_kv_heads);
  EXPECT_EQ(a.tied_embeddings, b.tied_embeddings);
  EXPECT_EQ(a.qkv_bias, b.qkv_bias);
  EXPECT_EQ(static_cast<float>(a.norm_eps), static_cast<float>(b.norm_eps));
  ASSERT_EQ(hf->graph().ops.size(), gguf->graph().ops.size());
  for (size_t i = 0; i < hf->graph().ops.size(); ++i) {
    EXPECT_EQ(hf->graph().ops[i].kind, gguf->graph().ops[i].kind);
    EXPECT_EQ(hf->graph().ops[i].weight, gguf->graph().ops[i].weight);
    EXPECT_EQ(hf->graph().ops[i].sliding_window, gguf->graph().ops[i].sliding_window);
    EXPECT_EQ(hf->graph().ops[i].softcap, gguf->graph().ops[i].softcap);
    EXPECT_EQ(hf->graph().ops[i].attention_scale, gguf->graph().ops[i].attention_scale);
    EXPECT_EQ(hf->graph().ops[i].rope, gguf->graph().ops[i].rope);
  }
  ASSERT_EQ(hf->graph().ropes.size(), gguf->graph().ropes.size());
  for (size_t i = 0; i < hf->graph().ropes.size(); ++i) {
    EXPECT_EQ(hf->graph().ropes[i].inverse_frequencies, gguf->graph().ropes[i].inverse_frequencies);
    EXPECT_EQ(hf->graph().ropes[i].long_inverse_frequencies, gguf->graph().ropes[i].long_inverse_frequencies);
    EXPECT_EQ(hf->graph().ropes[i].long_from, gguf->graph().ropes[i].long_from);
    EXPECT_EQ(hf->graph().ropes[i].magnitude, gguf->graph().ropes[i].magnitude);
  }
  EXPECT_EQ(hf->graph().widths, gguf->graph().widths);
  EXPECT_EQ(hf->vocabulary().tokens, gguf->vocabulary().tokens);
  EXPECT_EQ(hf->vocabulary().tokens.size(), kTinyVocab);
  EXPECT_EQ(hf->make_tokenizer()->encode("a b"), gguf->make_tokenizer()->encode("a b"));
  write_gguf(*gguf, folder / "b.gguf");
  EXPECT_EQ(read_text_file(folder / "a.gguf"), read_text_file(folder / "b.gguf"));
}

// Every weight and bias that the graph names is a tensor of the right shape, and every tensor but rope_freqs is used.
TEST_P(EveryArchitecture, TheGraphUsesExactlyTheTensors) {
  const TemporaryFolder folder;
  const auto model = open_tiny(GetParam().make(), folder);
  const Graph& graph = model->graph();
  std::set<std::string> used;
  for (const Op& op : graph.ops) {
    for (const std::string& name : {op.weight, op.bias}) {
      if (name.empty()) continue;
      ASSERT_NE(model->find(name), nullptr) << name;
      used.insert(name);
    }
    const auto width = [&](ValueId id) { return graph.widths.at(static_cast<size_t>(id)); };
    for (ValueId input : op.inputs) EXPECT_LT(input, op.output);
    if (op.kind == OpKind::kExpertLinear) {
      EXPECT_EQ(model->tensor(op.weight).n_matrices(), kTinyExperts);
      EXPECT_EQ(model->tensor(op.weight).n_rows() / kTinyExperts, width(op.output) / op.n_used);
    }
    if (op.kind != OpKind::kLinear) continue;
    EXPECT_EQ(model->tensor(op.weight).spec().shape, (std::vector<uint64_t>{width(op.output), width(op.inputs[0])}));
  }
  for (const ModelTensor& t : model->tensors())
    EXPECT_TRUE(used.contains(t.name()) || !t.spec().computed.empty()) << t.name();
  EXPECT_EQ(graph.widths.at(static_cast<size_t>(graph.logits)), kTinyVocab);
}

TEST(ModelOpen, LlamaQAndKRowsBecomePairs) {
  TinyModel tiny = tiny_llama();
  for (const char* name : {"q", "k", "v"})
    for (int layer : {0, 1})
      tiny.add(fmt::format("model.layers.{}.self_attn.{}_proj.bias", layer, name), {name[0] == 'q' ? 16u : 8u});
  for (int layer : {0, 1}) tiny.add(fmt::format("model.layers.{}.self_attn.o_proj.bias", layer), {16});
  tiny.config["attention_bias"] = true;
  const TemporaryFolder folder;
  const auto model = open_tiny(tiny, folder);
  // Heads of 4: Hugging Face rotates (0, 2) and (1, 3); GGUF's llama rotates neighbors.
  const uint64_t from[] = {0, 2, 1, 3};
  const std::pair<const char*, const char*> names[] = {{"attn_q", "q_proj"}, {"attn_k", "k_proj"}};
  for (const auto& [ours, theirs] : names) {
    const ModelTensor& weight = model->tensor(fmt::format("blk.1.{}.weight", ours));
    const std::vector<float> rows = all_rows(weight);
    const TinyTensor& source = tiny.tensor(fmt::format("model.layers.1.self_attn.{}.weight", theirs));
    EXPECT_TRUE(weight.raw().empty());
    for (uint64_t r = 0; r < weight.n_rows(); ++r)
      for (uint64_t c = 0; c < kTinyEmbd; ++c)
        ASSERT_EQ(rows[r * kTinyEmbd + c], source.values[(r / 4 * 4 + from[r % 4]) * kTinyEmbd + c]);
    const std::vector<float> bias = all_rows(model->tensor(fmt::format("blk.1.{}.bias", ours)));
    const TinyTensor& bias_source = tiny.tensor(fmt::format("model.layers.1.self_attn.{}.bias", theirs));
    for (uint64_t r = 0; r < bias.size(); ++r) ASSERT_EQ(bias[r], bias_source.values[r / 4 * 4 + from[r % 4]]);
  }
  EXPECT_EQ(all_rows(model->tensor("blk.1.attn_v.weight")),
            tiny.tensor("model.layers.1.self_attn.v_proj.weight").values);
  EXPECT_EQ(model->tensor("blk.1.attn_v.weight").raw().size(), 8 * kTinyEmbd * 4);
  EXPECT_NE(model->find("blk.0.attn_output.bias"), nullptr);
}

TEST(ModelOpen, QwenRowsStayAsTheyAre) {
  for (const TinyModel& tiny : {tiny_qwen2(), tiny_qwen3()}) {
    TinyModel copy = tiny;
    const TemporaryFolder folder;
    const auto model = open_tiny(tiny, folder);
    EXPECT_EQ(all_rows(model->tensor("blk.0.attn_q.weight")),
              copy.tensor("model.layers.0.self_attn.q_proj.weight").values);
    EXPECT_EQ(model->graph().ropes.at(0).style, RopeSpec::Style::kHalfSplit);
  }
}

TEST(ModelOpen, GemmaNormsAreOneMore) {
  TinyModel tiny = tiny_gemma3();
  const TemporaryFolder folder;
  const auto model = open_tiny(tiny, folder);
  const std::pair<const char*, const char*> names[] = {
      {"blk.1.attn_q_norm.weight", "model.layers.1.self_attn.q_norm.weight"},
      {"blk.1.post_attention_norm.weight", "model.layers.1.post_attention_layernorm.weight"},
      {"blk.1.post_ffw_norm.weight", "model.layers.1.post_feedforward_layernorm.weight"},
      {"output_norm.weight", "model.norm.weight"}};
  for (const auto& [ours, theirs] : names) {
    std::vector<float> expected = tiny.tensor(theirs).values;
    for (float& v : expected) v += 1;
    EXPECT_EQ(all_rows(model->tensor(ours)), expected) << ours;
    EXPECT_TRUE(model->tensor(ours).raw().empty());
  }
  EXPECT_FALSE(model->hparams().is_windowed(0));
  EXPECT_TRUE(model->hparams().is_windowed(1));
  EXPECT_EQ(model->graph().ropes.size(), 2u);
}

// Rows of query_key_value lie head by head, q k v in each.
TEST(ModelOpen, BloomHeadsAreSplit) {
  TinyModel tiny = tiny_bloom();
  const TemporaryFolder folder;
  const auto model = open_tiny(tiny, folder);
  const std::string theirs = "transformer.h.1.self_attention.query_key_value";
  const std::vector<float> rows = all_rows(model->tensor("blk.1.attn_qkv.weight"));
  const std::vector<float> bias = all_rows(model->tensor("blk.1.attn_qkv.bias"));
  for (uint64_t part = 0; part < 3; ++part)
    for (uint64_t head = 0; head < 4; ++head)
      for (uint64_t d = 0; d < 4; ++d) {
        const uint64_t ours = part * 16 + head * 4 + d, from = head * 12 + part * 4 + d;
        ASSERT_EQ(bias[ours], tiny.tensor(theirs + ".bias").values[from]);
        for (uint64_t c = 0; c < 16; ++c)
          ASSERT_EQ(rows[ours * 16 + c], tiny.tensor(theirs + ".weight").values[from * 16 + c]);
      }
}

TEST(ModelOpen, ExpertsAreStacked) {
  TinyModel tiny = tiny_mixtral();
  const TemporaryFolder folder;
  const auto model = open_tiny(tiny, folder);
  const ModelTensor& up = model->tensor("blk.1.ffn_up_exps.weight");
  EXPECT_EQ(up.spec().shape, (std::vector<uint64_t>{kTinyExperts, kTinyFf, kTinyEmbd}));
  EXPECT_EQ(up.n_rows(), kTinyExperts * kTinyFf);
  EXPECT_EQ(up.spec().role, Role::kFfnUp);
  const std::vector<float> all = all_rows(up);
  for (uint64_t e = 0; e < kTinyExperts; ++e) {
    const auto& source = tiny.tensor(fmt::format("model.layers.1.block_sparse_moe.experts.{}.w3.weight", e)).values;
    EXPECT_EQ(all_rows(up.matrix(e)), source);
    EXPECT_TRUE(std::equal(source.begin(), source.end(), all.begin() + static_cast<ptrdiff_t>(e * source.size())));
  }
  std::vector<float> across(2 * kTinyEmbd);  // the last row of one expert and the first of the next
  up.read_rows(kTinyFf - 1, 2, across.data());
  EXPECT_TRUE(std::equal(across.begin(), across.end(), all.begin() + static_cast<ptrdiff_t>((kTinyFf - 1) * kTinyEmbd)));
  EXPECT_FALSE(model->tensor("blk.0.ffn_gate_inp.weight").spec().quantizable);
}

// gpt-oss: (expert, input, 2 · output), gate and up in turn.
TEST(ModelOpen, GptOssGatesAreTakenApart) {
  TinyModel tiny = tiny_gpt_oss();
  const TemporaryFolder folder;
  const auto model = open_tiny(tiny, folder);
  const auto& both = tiny.tensor("model.layers.1.mlp.experts.gate_up_proj").values;
  const auto& bias = tiny.tensor("model.layers.1.mlp.experts.gate_up_proj_bias").values;
  const char* const names[] = {"ffn_gate_exps", "ffn_up_exps"};
  for (uint64_t which = 0; which < 2; ++which) {
    const std::vector<float> rows = all_rows(model->tensor(fmt::format("blk.1.{}.weight", names[which])));
    const std::vector<float> ours = all_rows(model->tensor(fmt::format("blk.1.{}.bias", names[which])));
    for (uint64_t e = 0; e < kTinyExperts; ++e)
      for (uint64_t r = 0; r < kTinyFf; ++r) {
        ASSERT_EQ(ours[e * kTinyFf + r], bias[(e * kTinyFf + r) * 2 + which]);
        for (uint64_t c = 0; c < kTinyEmbd; ++c)
          ASSERT_EQ(rows[(e * kTinyFf + r) * kTinyEmbd + c], both[((e * kTinyEmbd + c) * kTinyFf + r) * 2 + which]);
      }
  }
}

// kv_b_proj: (head, key then value, latent) → keys transposed, values as they are.
TEST(ModelOpen, DeepseekKeysAndValuesAreTakenApart) {
  TinyModel tiny = tiny_deepseek2();
  const TemporaryFolder folder;
  const auto model = open_tiny(tiny, folder);
  const auto& both = tiny.tensor("model.layers.1.self_attn.kv_b_proj.weight").values;
  const ModelTensor &k = model->tensor("blk.1.attn_k_b.weight"), &v = model->tensor("blk.1.attn_v_b.weight");
  EXPECT_EQ(k.spec().shape, (std::vector<uint64_t>{4, 8, 6}));
  EXPECT_EQ(v.spec().shape, (std::vector<uint64_t>{4, 5, 8}));
  const std::vector<float> keys = all_rows(k), values = all_rows(v);
  for (uint64_t head = 0; head < 4; ++head)
    for (uint64_t c = 0; c < 8; ++c) {
      for (uint64_t d = 0; d < 6; ++d) ASSERT_EQ(keys[(head * 8 + c) * 6 + d], both[(head * 11 + d) * 8 + c]);
      for (uint64_t d = 0; d < 5; ++d) ASSERT_EQ(values[(head * 5 + d) * 8 + c], both[(head * 11 + 6 + d) * 8 + c]);
    }
  std::vector<float> some(9 * 6);  // from inside one head into the next
  k.read_rows(5, 9, some.data());
  EXPECT_TRUE(std::equal(some.begin(), some.end(), keys.begin() + 5 * 6));
}

// Files that keep both in one matrix, with the sizes of heads where those of the latent stand now.
TEST(ModelOpen, OlderDeepseekFilesAreTheSameModel) {
  TinyModel tiny = tiny_deepseek3();
  const TemporaryFolder folder;
  const auto model = open_tiny(tiny, folder);
  const auto write_older = [&](const std::string& path, const TypeInfo& type) {
    GgufMetadata metadata = model->gguf_metadata();
    metadata.set("deepseek2.attention.key_length", GgufValue::u32(10));
    metadata.set("deepseek2.attention.value_length", GgufValue::u32(5));
    for (const char* key : {"key_length_mla", "value_length_mla"}) metadata.erase(std::string("deepseek2.attention.") + key);
    GgufWriter writer(path);
    for (const auto& [key, value] : metadata.items()) writer.metadata().set(key, value);
    const auto of_heads = [](const ModelTensor& t) { return t.name().ends_with("attn_k_b.weight") || t.name().ends_with("attn_v_b.weight"); };
    const auto name = [](int layer) { return fmt::format("blk.{}.attn_kv_b.weight", layer); };
    for (const ModelTensor& t : model->tensors())
      if (!of_heads(t)) writer.declare(t.name(), t.spec().shape, type_named("F32"));
    for (int layer : {0, 1}) writer.declare(name(layer), {4 * 11, 8}, type);
    writer.begin_data();
    for (const ModelTensor& t : model->tensors()) {
      const std::vector<float> values = all_rows(t);
      if (!of_heads(t)) writer.write(std::as_bytes(std::span(values)));
    }
    for (int layer : {0, 1}) {
      const auto& values = tiny.tensor(fmt::format("model.layers.{}.self_attn.kv_b_proj.weight", layer)).values;
      std::vector<std::byte> bytes(values.size() * type.block_bytes);
      type.encode(values.data(), nullptr, bytes.data(), values.size());
      writer.write(bytes);
    }
    writer.commit();
    return path;
  };
  for (const char* type : {"F32", "F16"}) {
    const auto older = Model::open(write_older(folder / "older.gguf", type_named(type)));
    ASSERT_EQ(older->tensors().size(), model->tensors().size());
    for (const ModelTensor& t : model->tensors()) EXPECT_EQ(all_rows(older->tensor(t.name())), all_rows(t)) << t.name();
    EXPECT_EQ(older->gguf_metadata().find("deepseek2.attention.key_length_mla")->as_uint(), 10u);
    EXPECT_EQ(older->gguf_metadata().find("deepseek2.attention.key_length")->as_uint(), 12u);
    EXPECT_EQ(older->hparams().value_dim, 5u);
  }
}

TEST(ModelOpen, Gpt2ProjectionsAreTransposed) {
  TinyModel tiny = tiny_gpt2();
  const TemporaryFolder folder;
  const auto model = open_tiny(tiny, folder);
  const ModelTensor& qkv = model->tensor("blk.0.attn_qkv.weight");
  ASSERT_EQ(qkv.spec().shape, (std::vector<uint64_t>{48, 16}));
  const std::vector<float> rows = all_rows(qkv);
  const TinyTensor& source = tiny.tensor("transformer.h.0.attn.c_attn.weight");
  for (uint64_t r = 0; r < 48; ++r)
    for (uint64_t c = 0; c < 16; ++c) ASSERT_EQ(rows[r * 16 + c], source.values[c * 48 + r]);
  EXPECT_EQ(head_weight_name(*model), "token_embd.weight");
  EXPECT_EQ(model->find("output.weight"), nullptr);
}

TEST(ModelOpen, Gpt2WithoutTheTransformerPrefixAndWithMasks) {
  TinyModel tiny = tiny_gpt2();
  for (TinyTensor& t : tiny.tensors) t.name = t.name.substr(std::string("transformer.").size());
  tiny.add("h.0.attn.bias", {1, 1, 4, 4});
  const TemporaryFolder folder;
  EXPECT_EQ(open_tiny(tiny, folder)->tensors().size(), tiny.tensors.size() - 1);
}

TEST(ModelOpen, MetadataOfLlama) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "my-model");
  tiny_llama().write(folder / "my-model");
  const auto model = Model::open(folder / "my-model/");
  const auto uint_of = [&](const char* key) {
    const GgufValue* value = model->gguf_metadata().find(key);
    return value ? value->as_uint().value_or(999) : 998;
  };
  EXPECT_EQ(*model->gguf_metadata().find("general.architecture")->as_string(), "llama");
  EXPECT_EQ(*model->gguf_metadata().find("general.name")->as_string(), "my-model");
  EXPECT_EQ(uint_of("llama.block_count"), 2u);
  EXPECT_EQ(uint_of("llama.context_length"), 128u);
  EXPECT_EQ(uint_of("llama.embedding_length"), kTinyEmbd);
  EXPECT_EQ(uint_of("llama.feed_forward_length"), kTinyFf);
  EXPECT_EQ(uint_of("llama.attention.head_count"), 4u);
  EXPECT_EQ(uint_of("llama.attention.head_count_kv"), 2u);
  EXPECT_EQ(uint_of("llama.attention.key_length"), 4u);
  EXPECT_EQ(uint_of("llama.rope.dimension_count"), 4u);
  EXPECT_EQ(uint_of("llama.vocab_size"), kTinyVocab);
  EXPECT_EQ(uint_of("general.file_type"), 0u);
  EXPECT_EQ(*model->gguf_metadata().find("llama.rope.freq_base")->as_number(), 20000.0);
  EXPECT_EQ(model->gguf_metadata().find("llama.attention.layer_norm_rms_epsilon")->type, GgufValueType::kF32);
  EXPECT_NE(model->gguf_metadata().find("tokenizer.ggml.tokens"), nullptr);
  EXPECT_EQ(head_weight_name(*model), "output.weight");
}

TEST(ModelOpen, TiedHeadIsNotWritten) {
  TinyModel tiny = tiny_llama();
  tiny.config["tie_word_embeddings"] = true;  // lm_head.weight is there all the same, as some tools write it
  const TemporaryFolder folder;
  const auto model = open_tiny(tiny, folder);
  EXPECT_EQ(model->find("output.weight"), nullptr);
  EXPECT_EQ(model->graph().ops.back().weight, "token_embd.weight");
}

TEST(ModelOpen, Llama3FactorsGoThroughTheFile) {
  TinyModel tiny = tiny_llama();
  tiny.config["rope_scaling"] = {{"rope_type", "llama3"},
                                 {"factor", 8.0},
                                 {"low_freq_factor", 1.0},
                                 {"high_freq_factor", 4.0},
                                 {"original_max_position_embeddings", 64}};
  const TemporaryFolder folder;
  const auto hf = open_tiny(tiny, folder);
  EXPECT_EQ(hf->tensors()[0].name(), "rope_freqs.weight");
  EXPECT_EQ(all_rows(hf->tensors()[0]), (std::vector<float>{1, 8}));
  EXPECT_EQ(hf->tensors()[0].raw().size(), 8u);
  write_gguf(*hf, folder / "a.gguf");
  const auto gguf = Model::open(folder / "a.gguf");
  // The base goes through the file as F32, which here holds it exactly.
  EXPECT_EQ(hf->graph().ropes.at(0).inverse_frequencies, gguf->graph().ropes.at(0).inverse_frequencies);
}

TEST(ModelOpen, QuantizedGgufIsDecoded) {
  TinyModel tiny = tiny_llama();
  const TypeInfo& type = type_named("Q8_0");
  // Rows of 32.
  TinyModel wide;
  wide.config = tiny.config;
  for (const char* key : {"hidden_size", "intermediate_size"}) wide.config[key] = 32;
  wide.config["head_dim"] = 8;
  for (const TinyTensor& t : tiny.tensors) {
    std::vector<uint64_t> shape = t.shape;
    for (uint64_t& d : shape) d = d == kTinyVocab ? d : d == 8 ? 16 : 32;
    wide.add(t.name, shape);
  }
  const TemporaryFolder folder;
  const auto hf = open_tiny(wide, folder);
  write_gguf(*hf, folder / "q.gguf", &type);
  const auto model = Model::open(folder / "q.gguf");
  for (const ModelTensor& t : model->tensors()) {
    if (!t.spec().quantizable) continue;
    EXPECT_EQ(t.type().name, "Q8_0");
    const std::vector<float> found = all_rows(t), expected = all_rows(hf->tensor(t.name()));
    for (size_t i = 0; i < found.size(); ++i)
      ASSERT_LE(std::fabs(found[i] - expected[i]), 2 * type.max_relative_error) << t.name();  // |x| < 2
  }
}

TEST(ModelOpen, RealModel) {
  const char* data = std::getenv("TSUBU_DATA");
  const std::string path = (data ? data : TSUBU_SOURCE_DIR "/../shared/data") + std::string("/models/mini21m");
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "needs TSUBU_DATA";
  const auto model = Model::open(path);
  EXPECT_EQ(model->n_parameters(), 20976128u);
  EXPECT_EQ(model->tensor("blk.3.ffn_down.weight").spec().shape, (std::vector<uint64_t>{512, 1536}));
  EXPECT_EQ(model->tensors().size(), 39u);
  EXPECT_EQ(model->gguf_metadata().find("general.file_type")->as_uint(), 32u);
}

}  // namespace
}  // namespace tsubu
