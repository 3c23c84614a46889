// The tiny models of test_models.h.
#include "model/test_models.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "base/file.h"
#include "base/half.h"
#include "container/test_bytes.h"

namespace tsubu {
namespace {

std::string as_bytes_of(const TinyTensor& tensor) {
  Bytes bytes;
  for (float value : tensor.values) {
    if (tensor.dtype == SafeDtype::kF32) bytes.add(value);
    if (tensor.dtype == SafeDtype::kF16) bytes.add(f32_to_f16(value));
    if (tensor.dtype == SafeDtype::kBF16) bytes.add(f32_to_bf16(value));
    if (safe_dtype_bits(tensor.dtype) == 8) bytes.add(uint8_t{0});
  }
  return bytes.text;
}

void write_weights(const std::string& path, const std::vector<TinyTensor>& tensors) {
  SafetensorsWriter writer(path);
  for (const TinyTensor& tensor : tensors) writer.declare(tensor.name, tensor.dtype, tensor.shape);
  for (const std::string& name : writer.begin_data())
    for (const TinyTensor& tensor : tensors)
      if (tensor.name == name) writer.write(bytes_of(as_bytes_of(tensor)));
  writer.commit();
}

std::string utf8(uint32_t c) {
  if (c < 0x80) return std::string(1, static_cast<char>(c));
  return {static_cast<char>(0xc0 | c >> 6), static_cast<char>(0x80 | (c & 0x3f))};
}

// GPT-2's byte alphabet: printable bytes stand for themselves, the others for U+0100 on; then one end token.
void write_tokenizer(const std::string& folder) {
  Json vocab = Json::object();
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    vocab[utf8(printable ? byte : next++)] = byte;
  }
  vocab["<|endoftext|>"] = 256;
  write_text_file(folder + "/vocab.json", vocab.dump());
  write_text_file(folder + "/merges.txt", "#version: 0.2\n");
}

TinyModel gated(const char* architecture, uint64_t head_dim, bool qkv_bias, bool qk_norm) {
  TinyModel m;
  m.config = {{"architectures", {architecture}},
              {"hidden_size", kTinyEmbd},
              {"intermediate_size", kTinyFf},
              {"num_hidden_layers", 2},
              {"num_attention_heads", 4},
              {"num_key_value_heads", 2},
              {"head_dim", head_dim},
              {"vocab_size", kTinyVocab},
              {"max_position_embeddings", 128},
              {"rms_norm_eps", 1e-5},
              {"rope_theta", 20000.0},
              {"hidden_act", "silu"},
              {"tie_word_embeddings", false}};
  m.add("model.embed_tokens.weight", {kTinyVocab, kTinyEmbd});
  for (int layer = 0; layer < 2; ++layer) {
    const std::string at = "model.layers." + std::to_string(layer) + ".";
    const auto projection = [&](const std::string& name, uint64_t rows, uint64_t cols, bool bias) {
      m.add(at + name + ".weight", {rows, cols});
      if (bias) m.add(at + name + ".bias", {rows});
    };
    m.add(at + "input_layernorm.weight", {kTinyEmbd});
    projection("self_attn.q_proj", 4 * head_dim, kTinyEmbd, qkv_bias);
    projection("self_attn.k_proj", 2 * head_dim, kTinyEmbd, qkv_bias);
    projection("self_attn.v_proj", 2 * head_dim, kTinyEmbd, qkv_bias);
    projection("self_attn.o_proj", kTinyEmbd, 4 * head_dim, false);
    if (qk_norm) m.add(at + "self_attn.q_norm.weight", {head_dim});
    if (qk_norm) m.add(at + "self_attn.k_norm.weight", {head_dim});
    m.add(at + "post_attention_layernorm.weight", {kTinyEmbd});
    projection("mlp.gate_proj", kTinyFf, kTinyEmbd, false);
    projection("mlp.up_proj", kTinyFf, kTinyEmbd, false);
    projection("mlp.down_proj", kTinyEmbd, kTinyFf, false);
  }
  m.add("model.norm.weight", {kTinyEmbd});
  m.add("lm_head.weight", {kTinyVocab, kTinyEmbd});
  return m;
}

}  // namespace

void TinyModel::add(const std::string& name, std::vector<uint64_t> shape) {
  TinyTensor t;
  t.name = name;
  t.values.resize(std::accumulate(shape.begin(), shape.end(), uint64_t{1}, std::multiplies<>()));
  // Multiples of 1/64 below 2: 8 significant bits. 251 is prime, so rows of one tensor differ, and so do tensors.
  for (size_t i = 0; i < t.values.size(); ++i)
    t.values[i] = (static_cast<float>((i * 7 + tensors.size() * 31) % 251) - 125) / 64;
  t.shape = std::move(shape);
  tensors.push_back(std::move(t));
}

TinyTensor& TinyModel::tensor(const std::string& name) {
  const auto it = std::find_if(tensors.begin(), tensors.end(), [&](const TinyTensor& t) { return t.name == name; });
  if (it == tensors.end()) throw std::runtime_error("no tensor " + name);
  return *it;
}

void TinyModel::remove(const std::string& name) {
  std::erase_if(tensors, [&](const TinyTensor& t) { return t.name == name; });
}

void TinyModel::set_dtype(SafeDtype dtype) {
  for (TinyTensor& t : tensors) t.dtype = dtype;
}

void TinyModel::write(const std::string& folder, int n_shards) const {
  write_text_file(folder + "/config.json", config.dump());
  write_tokenizer(folder);
  if (n_shards == 1) return write_weights(folder + "/model.safetensors", tensors);
  Json index = {{"metadata", Json::object()}, {"weight_map", Json::object()}};
  for (int shard = 0; shard < n_shards; ++shard) {
    const std::string name = fmt::format("model-{:05}-of-{:05}.safetensors", shard + 1, n_shards);
    std::vector<TinyTensor> part;
    for (size_t i = static_cast<size_t>(shard); i < tensors.size(); i += static_cast<size_t>(n_shards)) {
      part.push_back(tensors[i]);
      index["weight_map"][tensors[i].name] = name;
    }
    write_weights(folder + "/" + name, part);
  }
  write_text_file(folder + "/model.safetensors.index.json", index.dump());
}

TinyModel tiny_llama() { return gated("LlamaForCausalLM", 4, false, false); }
TinyModel tiny_qwen2() { return gated("Qwen2ForCausalLM", 4, true, false); }
TinyModel tiny_qwen3() { return gated("Qwen3ForCausalLM", 6, false, true); }

TinyModel tiny_gpt2() {
  TinyModel m;
  m.config = {{"architectures", {"GPT2LMHeadModel"}}, {"n_embd", kTinyEmbd}, {"n_layer", 2}, {"n_head", 4},
              {"n_positions", 32},  {"vocab_size", kTinyVocab}, {"n_inner", kTinyFf}, {"layer_norm_epsilon", 1e-5},
              {"activation_function", "gelu_new"}};
  const auto both = [&](const std::string& name, std::vector<uint64_t> shape) {
    const uint64_t n_outputs = shape.back();
    m.add(name + ".weight", std::move(shape));
    m.add(name + ".bias", {n_outputs});
  };
  m.add("transformer.wte.weight", {kTinyVocab, kTinyEmbd});
  m.add("transformer.wpe.weight", {32, kTinyEmbd});
  for (int layer = 0; layer < 2; ++layer) {
    const std::string at = "transformer.h." + std::to_string(layer) + ".";
    both(at + "ln_1", {kTinyEmbd});
    both(at + "attn.c_attn", {kTinyEmbd, 3 * kTinyEmbd});
    both(at + "attn.c_proj", {kTinyEmbd, kTinyEmbd});
    both(at + "ln_2", {kTinyEmbd});
    both(at + "mlp.c_fc", {kTinyEmbd, kTinyFf});
    both(at + "mlp.c_proj", {kTinyFf, kTinyEmbd});
  }
  both("transformer.ln_f", {kTinyEmbd});
  return m;
}

TinyModel tiny_gemma2() {
  TinyModel m = gated("Gemma2ForCausalLM", 4, false, false);
  m.remove("lm_head.weight");
  m.config.update({{"tie_word_embeddings", true}, {"hidden_act", "gelu_pytorch_tanh"}, {"sliding_window", 8},
                   {"query_pre_attn_scalar", 4}, {"attn_logit_softcapping", 50.0}, {"final_logit_softcapping", 30.0}});
  for (int layer = 0; layer < 2; ++layer)
    for (const char* name : {"pre_feedforward_layernorm", "post_feedforward_layernorm"})
      m.add(fmt::format("model.layers.{}.{}.weight", layer, name), {kTinyEmbd});
  return m;
}

TinyModel tiny_gemma3() {
  TinyModel m = gated("Gemma3ForCausalLM", 6, false, true);
  m.remove("lm_head.weight");
  m.config.update({{"tie_word_embeddings", true}, {"hidden_act", "gelu_pytorch_tanh"}, {"sliding_window", 8},
                   {"query_pre_attn_scalar", 6}, {"rope_local_base_freq", 5000.0},
                   {"layer_types", {"full_attention", "sliding_attention"}}});
  for (int layer = 0; layer < 2; ++layer)
    for (const char* name : {"pre_feedforward_layernorm", "post_feedforward_layernorm"})
      m.add(fmt::format("model.layers.{}.{}.weight", layer, name), {kTinyEmbd});
  return m;
}

TinyModel tiny_phi3() {
  TinyModel m = gated("Phi3ForCausalLM", 4, false, false);
  m.config["sliding_window"] = 8;
  m.config["original_max_position_embeddings"] = 32;
  m.config["rope_scaling"] = {{"type", "longrope"}, {"short_factor", {1.0, 1.5}}, {"long_factor", {2.0, 3.5}}};
  for (int layer = 0; layer < 2; ++layer) {
    const std::string at = fmt::format("model.layers.{}.", layer);
    for (const char* name : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj"})
      m.remove(at + name + ".weight");
    m.add(at + "self_attn.qkv_proj.weight", {32, kTinyEmbd});
    m.add(at + "mlp.gate_up_proj.weight", {2 * kTinyFf, kTinyEmbd});
  }
  return m;
}

namespace {

// In place of the feed-forwards: gate, up, down of each expert, and the router.
void add_experts(TinyModel& m, const std::string& router, const std::array<const char*, 3>& names) {
  m.config.update({{"num_local_experts", kTinyExperts}, {"num_experts_per_tok", 2}});
  for (int layer = 0; layer < 2; ++layer) {
    const std::string at = fmt::format("model.layers.{}.", layer);
    for (const char* name : {"gate_proj", "up_proj", "down_proj"}) m.remove(at + "mlp." + name + ".weight");
    m.add(at + router + ".weight", {kTinyExperts, kTinyEmbd});
    for (uint64_t e = 0; e < kTinyExperts; ++e) {
      m.add(at + fmt::format(fmt::runtime(names[0]), e) + ".weight", {kTinyFf, kTinyEmbd});
      m.add(at + fmt::format(fmt::runtime(names[1]), e) + ".weight", {kTinyFf, kTinyEmbd});
      m.add(at + fmt::format(fmt::runtime(names[2]), e) + ".weight", {kTinyEmbd, kTinyFf});
    }
  }
}

void add_both(TinyModel& m, const std::string& name, std::vector<uint64_t> shape) {
  const uint64_t n_outputs = shape.front();
  m.add(name + ".weight", std::move(shape));
  m.add(name + ".bias", {n_outputs});
}

}  // namespace

TinyModel tiny_mixtral() {
  TinyModel m = gated("MixtralForCausalLM", 4, false, false);
  add_experts(m, "block_sparse_moe.gate",
              {"block_sparse_moe.experts.{}.w1", "block_sparse_moe.experts.{}.w3", "block_sparse_moe.experts.{}.w2"});
  return m;
}

TinyModel tiny_qwen3moe() {
  TinyModel m = gated("Qwen3MoeForCausalLM", 6, false, true);
  add_experts(m, "mlp.gate", {"mlp.experts.{}.gate_proj", "mlp.experts.{}.up_proj", "mlp.experts.{}.down_proj"});
  m.config.update({{"moe_intermediate_size", kTinyFf}, {"intermediate_size", 2 * kTinyFf}, {"norm_topk_prob", true}});
  return m;
}

namespace {

TinyModel deepseek(const char* name, uint64_t q_latent) {
  TinyModel m = gated(name, 10, false, false);
  m.config.update({{"n_routed_experts", kTinyExperts}, {"num_experts_per_tok", 2}, {"n_shared_experts", 2},
                   {"first_k_dense_replace", 1}, {"moe_intermediate_size", 8}, {"kv_lora_rank", 8}, {"qk_nope_head_dim", 6},
                   {"qk_rope_head_dim", 4}, {"v_head_dim", 5}, {"q_lora_rank", nullptr}, {"routed_scaling_factor", 1.5}});
  if (q_latent > 0) m.config["q_lora_rank"] = q_latent;
  for (int layer = 0; layer < 2; ++layer) {
    const std::string at = fmt::format("model.layers.{}.", layer), attention = at + "self_attn.";
    for (const char* one : {"q_proj", "k_proj", "v_proj", "o_proj"}) m.remove(attention + one + ".weight");
    if (q_latent > 0) {
      m.add(attention + "q_a_proj.weight", {q_latent, kTinyEmbd});
      m.add(attention + "q_a_layernorm.weight", {q_latent});
      m.add(attention + "q_b_proj.weight", {4 * 10, q_latent});
    } else {
      m.add(attention + "q_proj.weight", {4 * 10, kTinyEmbd});
    }
    m.add(attention + "kv_a_proj_with_mqa.weight", {8 + 4, kTinyEmbd});
    m.add(attention + "kv_a_layernorm.weight", {8});
    m.add(attention + "kv_b_proj.weight", {4 * (6 + 5), 8});
    m.add(attention + "o_proj.weight", {kTinyEmbd, 4 * 5});
    if (layer == 0) continue;
    for (const char* one : {"gate_proj", "up_proj", "down_proj"}) m.remove(at + "mlp." + one + ".weight");
    m.add(at + "mlp.gate.weight", {kTinyExperts, kTinyEmbd});
    const auto expert = [&](const std::string& module, uint64_t n_ff) {
      m.add(at + module + ".gate_proj.weight", {n_ff, kTinyEmbd});
      m.add(at + module + ".up_proj.weight", {n_ff, kTinyEmbd});
      m.add(at + module + ".down_proj.weight", {kTinyEmbd, n_ff});
    };
    for (uint64_t e = 0; e < kTinyExperts; ++e) expert(fmt::format("mlp.experts.{}", e), 8);
    expert("mlp.shared_experts", 2 * 8);
  }
  return m;
}

}  // namespace

TinyModel tiny_deepseek2() { return deepseek("DeepseekV2ForCausalLM", 0); }

TinyModel tiny_deepseek3() {
  TinyModel m = deepseek("DeepseekV3ForCausalLM", 12);
  m.add("model.layers.1.mlp.gate.e_score_correction_bias", {kTinyExperts});
  m.config.update({{"n_group", 2}, {"topk_group", 1}, {"norm_topk_prob", true},
                   {"rope_scaling", {{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 32},
                                     {"mscale", 1.0}, {"mscale_all_dim", 1.0}}}});
  return m;
}

TinyModel tiny_gpt_oss() {
  TinyModel m = gated("GptOssForCausalLM", 4, true, false);
  m.config.update({{"num_local_experts", kTinyExperts}, {"num_experts_per_tok", 2}, {"attention_bias", true},
                   {"sliding_window", 8}});
  for (int layer = 0; layer < 2; ++layer) {
    const std::string at = fmt::format("model.layers.{}.", layer), experts = at + "mlp.experts.";
    for (const char* name : {"gate_proj", "up_proj", "down_proj"}) m.remove(at + "mlp." + name + ".weight");
    m.add(at + "self_attn.o_proj.bias", {kTinyEmbd});
    m.add(at + "self_attn.sinks", {4});
    add_both(m, at + "mlp.router", {kTinyExperts, kTinyEmbd});
    m.add(experts + "gate_up_proj", {kTinyExperts, kTinyEmbd, 2 * kTinyFf});
    m.add(experts + "gate_up_proj_bias", {kTinyExperts, 2 * kTinyFf});
    m.add(experts + "down_proj", {kTinyExperts, kTinyFf, kTinyEmbd});
    m.add(experts + "down_proj_bias", {kTinyExperts, kTinyEmbd});
  }
  return m;
}

TinyModel tiny_opt() {
  TinyModel m;
  m.config = {{"architectures", {"OPTForCausalLM"}}, {"hidden_size", kTinyEmbd}, {"num_hidden_layers", 2},
              {"num_attention_heads", 4}, {"ffn_dim", kTinyFf}, {"vocab_size", kTinyVocab},
              {"max_position_embeddings", 32}, {"word_embed_proj_dim", kTinyEmbd}, {"activation_function", "relu"}};
  m.add("model.decoder.embed_tokens.weight", {kTinyVocab, kTinyEmbd});
  m.add("model.decoder.embed_positions.weight", {34, kTinyEmbd});
  for (int layer = 0; layer < 2; ++layer) {
    const std::string at = fmt::format("model.decoder.layers.{}.", layer);
    add_both(m, at + "self_attn_layer_norm", {kTinyEmbd});
    for (const char* name : {"q_proj", "k_proj", "v_proj", "out_proj"})
      add_both(m, at + "self_attn." + name, {kTinyEmbd, kTinyEmbd});
    add_both(m, at + "final_layer_norm", {kTinyEmbd});
    add_both(m, at + "fc1", {kTinyFf, kTinyEmbd});
    add_both(m, at + "fc2", {kTinyEmbd, kTinyFf});
  }
  add_both(m, "model.decoder.final_layer_norm", {kTinyEmbd});
  return m;
}

TinyModel tiny_bloom() {
  TinyModel m;
  m.config = {{"architectures", {"BloomForCausalLM"}}, {"hidden_size", kTinyEmbd}, {"n_layer", 2}, {"n_head", 4},
              {"vocab_size", kTinyVocab}, {"seq_length", 64}};
  m.add("transformer.word_embeddings.weight", {kTinyVocab, kTinyEmbd});
  add_both(m, "transformer.word_embeddings_layernorm", {kTinyEmbd});
  for (int layer = 0; layer < 2; ++layer) {
    const std::string at = fmt::format("transformer.h.{}.", layer);
    add_both(m, at + "input_layernorm", {kTinyEmbd});
    add_both(m, at + "self_attention.query_key_value", {3 * kTinyEmbd, kTinyEmbd});
    add_both(m, at + "self_attention.dense", {kTinyEmbd, kTinyEmbd});
    add_both(m, at + "post_attention_layernorm", {kTinyEmbd});
    add_both(m, at + "mlp.dense_h_to_4h", {4 * kTinyEmbd, kTinyEmbd});
    add_both(m, at + "mlp.dense_4h_to_h", {kTinyEmbd, 4 * kTinyEmbd});
  }
  add_both(m, "transformer.ln_f", {kTinyEmbd});
  return m;
}

TinyModel tiny_gptneox() {
  TinyModel m;
  m.config = {{"architectures", {"GPTNeoXForCausalLM"}}, {"hidden_size", kTinyEmbd}, {"num_hidden_layers", 2},
              {"num_attention_heads", 4}, {"intermediate_size", kTinyFf}, {"vocab_size", kTinyVocab},
              {"max_position_embeddings", 64}, {"rotary_pct", 0.5}, {"rotary_emb_base", 20000},
              {"use_parallel_residual", true}, {"hidden_act", "gelu"}};
  m.add("gpt_neox.embed_in.weight", {kTinyVocab, kTinyEmbd});
  for (int layer = 0; layer < 2; ++layer) {
    const std::string at = fmt::format("gpt_neox.layers.{}.", layer);
    add_both(m, at + "input_layernorm", {kTinyEmbd});
    add_both(m, at + "post_attention_layernorm", {kTinyEmbd});
    add_both(m, at + "attention.query_key_value", {3 * kTinyEmbd, kTinyEmbd});
    add_both(m, at + "attention.dense", {kTinyEmbd, kTinyEmbd});
    add_both(m, at + "mlp.dense_h_to_4h", {kTinyFf, kTinyEmbd});
    add_both(m, at + "mlp.dense_4h_to_h", {kTinyEmbd, kTinyFf});
  }
  add_both(m, "gpt_neox.final_layer_norm", {kTinyEmbd});
  m.add("embed_out.weight", {kTinyVocab, kTinyEmbd});
  return m;
}

TEST(TinyModels, ValuesAreExactInEveryDtype) {
  for (const TinyTensor& t : tiny_gpt2().tensors)
    for (float v : t.values) {
      ASSERT_EQ(f16_to_f32(f32_to_f16(v)), v);
      ASSERT_EQ(bf16_to_f32(f32_to_bf16(v)), v);
    }
}

}  // namespace tsubu
