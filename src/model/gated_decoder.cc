// The Llama family; see gated_decoder.h.
#include "model/gated_decoder.h"

#include "base/error.h"
#include "base/progress.h"
#include "model/rope_scaling.h"
#include "model/tensor_list.h"

namespace tsubu {
namespace {

std::string block(uint32_t layer, std::string_view name) { return fmt::format("blk.{}.{}", layer, name); }

void check_activation(const ConfigReader& config) {
  const std::string activation = config.find_string("hidden_act").value_or("silu");
  if (activation != "silu" && activation != "swish")
    fail(ExitCode::kUnsupported, "{}: hidden_act \"{}\" is not supported (silu is)", config.where(), activation);
}

void note_sliding_window(const ConfigReader& config, const Hparams& h) {
  if (!config.find_bool("use_sliding_window").value_or(true)) return;
  const uint64_t window = config.find_uint({"sliding_window"}, 0, kMaxContext).value_or(0);
  if (window > 0 && window < h.n_ctx)
    note(fmt::format("{}: sliding_window {} is left out, as GGUF's \"{}\" has none: every token sees all before it",
                     config.where(), window, h.architecture));
}

}  // namespace

Hparams GatedDecoder::hparams_from_config(const Json& json, const std::string& where) const {
  const ConfigReader config(json, where);
  check_activation(config);
  Hparams h;
  h.architecture = name();
  h.n_layers = config.uint({"num_hidden_layers"}, 1, kMaxLayers);
  h.n_embd = config.uint({"hidden_size"}, 1, kMaxWidth);
  h.n_ff = config.uint({"intermediate_size"}, 1, kMaxFfn);
  h.n_heads = config.uint({"num_attention_heads"}, 1, kMaxHeads);
  h.n_kv_heads = static_cast<uint32_t>(config.find_uint({"num_key_value_heads"}, 1, kMaxHeads).value_or(h.n_heads));
  h.n_vocab = config.uint({"vocab_size"}, 1, kMaxVocab);
  h.n_ctx = config.uint({"max_position_embeddings"}, 1, kMaxContext);
  const auto head_dim = config.find_uint({"head_dim"}, 1, kMaxHeadDim);
  if (!head_dim && h.n_embd % h.n_heads != 0)
    fail(ExitCode::kBadInput, "{}: hidden_size {} is no multiple of num_attention_heads {}, and head_dim is missing",
         where, h.n_embd, h.n_heads);
  h.head_dim = static_cast<uint32_t>(head_dim.value_or(h.n_embd / h.n_heads));
  h.rope_dims = h.head_dim;
  h.norm_eps = config.find_number("rms_norm_eps", 1e-30, 1).value_or(1e-6);
  h.tied_embeddings = config.find_bool("tie_word_embeddings").value_or(traits_.default_tied_embeddings);
  const bool attention_bias = config.find_bool("attention_bias").value_or(false);
  const bool mlp_bias = config.find_bool("mlp_bias").value_or(false);
  if (!traits_.attention_bias_key && (attention_bias || mlp_bias))
    fail(ExitCode::kUnsupported, "{}: attention_bias and mlp_bias have no counterpart in GGUF's \"{}\"", where, name());
  h.qkv_bias = traits_.always_qkv_bias || attention_bias;
  h.attn_output_bias = attention_bias;
  h.mlp_bias = mlp_bias;
  check_hparams(h, where);
  rope_from_config(config, h);
  note_sliding_window(config, h);
  return h;
}

Hparams GatedDecoder::hparams_from_gguf(const GgufMetadata& metadata, const std::string& where) const {
  const GgufReader reader(metadata, std::string(name()), where);
  if (reader.find_uint("expert_count", 0, kMaxHeads).value_or(0) > 0)
    fail(ExitCode::kUnsupported, "{}: mixtures of experts are not supported in architecture \"{}\"", where, name());
  Hparams h;
  h.architecture = name();
  h.n_layers = reader.uint("block_count", 1, kMaxLayers);
  h.n_embd = reader.uint("embedding_length", 1, kMaxWidth);
  h.n_ff = reader.uint("feed_forward_length", 1, kMaxFfn);
  h.n_heads = reader.uint("attention.head_count", 1, kMaxHeads);
  h.n_kv_heads =
      static_cast<uint32_t>(reader.find_uint("attention.head_count_kv", 1, kMaxHeads).value_or(h.n_heads));
  h.n_ctx = reader.uint("context_length", 1, kMaxContext);
  h.n_vocab = vocabulary_size_from_gguf(metadata, reader);
  const auto head_dim = reader.find_uint("attention.key_length", 1, kMaxHeadDim);
  if (!head_dim && h.n_embd % h.n_heads != 0)
    fail(ExitCode::kBadInput, "{}: an embedding of {} is no multiple of {} heads, and metadata {} is missing", where,
         h.n_embd, h.n_heads, reader.key("attention.key_length"));
  h.head_dim = static_cast<uint32_t>(head_dim.value_or(h.n_embd / h.n_heads));
  const uint64_t value_dim = reader.find_uint("attention.value_length", 1, kMaxHeadDim).value_or(h.head_dim);
  h.rope_dims = static_cast<uint32_t>(reader.find_uint("rope.dimension_count", 1, kMaxHeadDim).value_or(h.head_dim));
  if (value_dim != h.head_dim || h.rope_dims != h.head_dim)
    fail(ExitCode::kUnsupported,
         "{}: key heads of {}, value heads of {}, {} rotated dimensions: only one and the same size is supported",
         where, h.head_dim, value_dim, h.rope_dims);
  h.norm_eps = reader.find_number("attention.layer_norm_rms_epsilon", 0, 1).value_or(1e-6);
  check_hparams(h, where);
  rope_from_gguf(reader, h);
  return h;
}

void GatedDecoder::hparams_to_gguf(const Hparams& h, GgufMetadata& metadata) const {
  const std::string prefix = std::string(name()) + ".";
  metadata.set(prefix + "block_count", GgufValue::u32(h.n_layers));
  metadata.set(prefix + "context_length", GgufValue::u32(h.n_ctx));
  metadata.set(prefix + "embedding_length", GgufValue::u32(h.n_embd));
  metadata.set(prefix + "feed_forward_length", GgufValue::u32(h.n_ff));
  metadata.set(prefix + "attention.head_count", GgufValue::u32(h.n_heads));
  metadata.set(prefix + "attention.head_count_kv", GgufValue::u32(h.n_kv_heads));
  metadata.set(prefix + "attention.layer_norm_rms_epsilon", GgufValue::f32(static_cast<float>(h.norm_eps)));
  metadata.set(prefix + "attention.key_length", GgufValue::u32(h.head_dim));
  metadata.set(prefix + "attention.value_length", GgufValue::u32(h.head_dim));
  if (traits_.writes_vocab_size) metadata.set(prefix + "vocab_size", GgufValue::u32(h.n_vocab));
  rope_to_gguf(h, metadata);
}

std::vector<TensorSpec> GatedDecoder::tensors(const Hparams& h) const {
  const uint64_t q = uint64_t{h.n_heads} * h.head_dim, kv = uint64_t{h.n_kv_heads} * h.head_dim;
  const bool permuted = traits_.rope_style == RopeSpec::Style::kInterleaved;
  TensorList list;
  if (!h.rope_scaling.frequency_factors.empty()) list.computed("rope_freqs.weight", h.rope_scaling.frequency_factors);
  list.weight("token_embd", "model.embed_tokens", {h.n_vocab, h.n_embd}, Role::kTokenEmbedding);
  for (uint32_t layer = 0; layer < h.n_layers; ++layer) {
    list.enter_block(layer, "model.layers.");
    list.norm("attn_norm", "input_layernorm", h.n_embd);
    const auto linear = [&](const char* ours, const char* theirs, uint64_t rows, uint64_t cols, Role role, bool bias) {
      list.weight(ours, theirs, {rows, cols}, role);
      if (bias) list.bias(ours, theirs, rows);
    };
    const auto rotated = [&](const char* ours, const char* theirs, uint64_t rows, Role role, uint32_t n_heads) {
      const size_t first = list.size();
      linear(ours, theirs, rows, h.n_embd, role, h.qkv_bias);
      if (permuted) list.interleave_from(first, n_heads);
    };
    rotated("attn_q", "self_attn.q_proj", q, Role::kAttnQ, h.n_heads);
    rotated("attn_k", "self_attn.k_proj", kv, Role::kAttnK, h.n_kv_heads);
    linear("attn_v", "self_attn.v_proj", kv, h.n_embd, Role::kAttnV, h.qkv_bias);
    linear("attn_output", "self_attn.o_proj", h.n_embd, q, Role::kAttnOutput, h.attn_output_bias);
    if (traits_.qk_norm) {
      list.norm("attn_q_norm", "self_attn.q_norm", h.head_dim);
      list.norm("attn_k_norm", "self_attn.k_norm", h.head_dim);
    }
    list.norm("ffn_norm", "post_attention_layernorm", h.n_embd);
    linear("ffn_gate", "mlp.gate_proj", h.n_ff, h.n_embd, Role::kFfnGate, h.mlp_bias);
    linear("ffn_up", "mlp.up_proj", h.n_ff, h.n_embd, Role::kFfnUp, h.mlp_bias);
    linear("ffn_down", "mlp.down_proj", h.n_embd, h.n_ff, Role::kFfnDown, h.mlp_bias);
  }
  list.leave_blocks();
  list.norm("output_norm", "model.norm", h.n_embd);
  if (!h.tied_embeddings) list.weight("output", "lm_head", {h.n_vocab, h.n_embd}, Role::kOutput);
  return list.finish();
}

Graph GatedDecoder::graph(const Hparams& h) const {
  const RopeSpec rope = make_rope(h, traits_.rope_style);
  const uint32_t q_width = h.n_heads * h.head_dim, kv_width = h.n_kv_heads * h.head_dim;
  const auto eps = static_cast<float>(h.norm_eps);
  GraphBuilder g;
  ValueId x = g.embed("token_embd.weight", h.n_embd);
  for (uint32_t layer = 0; layer < h.n_layers; ++layer) {
    g.set_layer(static_cast<int>(layer));
    const auto weight = [&](std::string_view name) { return block(layer, name) + ".weight"; };
    const auto linear = [&](ValueId input, std::string_view name, uint32_t width, bool bias) {
      return g.linear(input, weight(name), width, bias ? block(layer, name) + ".bias" : std::string());
    };
    const ValueId attn_in = g.rms_norm(x, weight("attn_norm"), eps);
    ValueId q = linear(attn_in, "attn_q", q_width, h.qkv_bias);
    ValueId k = linear(attn_in, "attn_k", kv_width, h.qkv_bias);
    const ValueId v = linear(attn_in, "attn_v", kv_width, h.qkv_bias);
    if (traits_.qk_norm) {
      q = g.rms_norm(q, weight("attn_q_norm"), eps, h.head_dim);
      k = g.rms_norm(k, weight("attn_k_norm"), eps, h.head_dim);
    }
    q = g.rope(q, rope, h.n_heads, h.head_dim);
    k = g.rope(k, rope, h.n_kv_heads, h.head_dim);
    const ValueId heads = g.attention(q, k, v, h.n_heads, h.n_kv_heads, h.head_dim, h.sliding_window);
    x = g.add(x, linear(heads, "attn_output", h.n_embd, h.attn_output_bias));

    const ValueId ffn_in = g.rms_norm(x, weight("ffn_norm"), eps);
    const ValueId gate = linear(ffn_in, "ffn_gate", h.n_ff, h.mlp_bias);
    const ValueId up = linear(ffn_in, "ffn_up", h.n_ff, h.mlp_bias);
    x = g.add(x, linear(g.silu_mul(gate, up), "ffn_down", h.n_embd, h.mlp_bias));
  }
  g.set_layer(-1);
  x = g.rms_norm(x, "output_norm.weight", eps);
  return g.finish(g.linear(x, h.tied_embeddings ? "token_embd.weight" : "output.weight", h.n_vocab));
}

}  // namespace tsubu
