// The Llama family; see gated_decoder.h.
#include "model/gated_decoder.h"

#include <cmath>

#include "base/error.h"
#include "base/progress.h"
#include "model/rope_scaling.h"
#include "model/tensor_list.h"

namespace tsubu {
namespace {

std::string block(uint32_t layer, std::string_view name) { return fmt::format("blk.{}.{}", layer, name); }

void check_activation(const ConfigReader& config, OpKind gate) {
  auto activation = config.find_string("hidden_activation");
  if (!activation) activation = config.find_string("hidden_act");
  if (!activation) return;
  const bool is_gelu = *activation == "gelu_pytorch_tanh" || *activation == "gelu_new" || *activation == "gelu_fast";
  const bool is_silu = *activation == "silu" || *activation == "swish";
  if (gate == OpKind::kGeluMul ? is_gelu : is_silu) return;
  fail(ExitCode::kUnsupported, "{}: hidden_act \"{}\" is not supported ({} is)", config.where(), *activation,
       gate == OpKind::kGeluMul ? "gelu_pytorch_tanh" : "silu");
}

void note_sliding_window(const ConfigReader& config, const Hparams& h) {
  if (!config.find_bool("use_sliding_window").value_or(true)) return;
  const uint64_t window = config.find_uint({"sliding_window"}, 0, kMaxContext).value_or(0);
  if (window > 0 && window < h.n_ctx)
    note(fmt::format("{}: sliding_window {} is left out, as GGUF's \"{}\" has none: every token sees all before it",
                     config.where(), window, h.architecture));
}

}  // namespace

void GatedDecoder::experts_from_config(const ConfigReader& config, Hparams& h) const {
  const auto n = config.find_uint({"num_local_experts", "num_experts"}, 0, kMaxExperts);
  if (traits_.experts.router.empty()) {
    if (n.value_or(0) > 0)
      fail(ExitCode::kUnsupported, "{}: mixtures of experts are not supported in architecture \"{}\"", config.where(),
           name());
    return;
  }
  h.n_experts = static_cast<uint32_t>(n.value_or(0));
  if (h.n_experts == 0) return;
  h.n_experts_used = config.uint({"num_experts_per_tok"}, 1, kMaxExperts);
  h.n_ff_expert = config.uint({"moe_intermediate_size", "intermediate_size"}, 1, kMaxFfn);
}

void GatedDecoder::windows_from_config(const ConfigReader& config, Hparams& h) const {
  if (traits_.window_period == 0) return note_sliding_window(config, h);
  h.sliding_window = static_cast<uint32_t>(config.find_uint({"sliding_window"}, 0, kMaxContext).value_or(0));
  if (h.sliding_window == 0 || traits_.window_period == 1) return;
  h.windowed = layers_with_period(
      config.find_uint({"sliding_window_pattern", "_sliding_window_pattern"}, 1, kMaxLayers).value_or(traits_.window_period),
      h.n_layers);
  const auto types = config.find_strings("layer_types");
  if (!types) return;
  if (types->size() != h.n_layers)
    fail(ExitCode::kBadInput, "{}: layer_types: expected {} of them, one for each layer, found {}", config.where(),
         h.n_layers, types->size());
  for (uint32_t layer = 0; layer < h.n_layers; ++layer) {
    const std::string& type = (*types)[layer];
    if (type != "sliding_attention" && type != "full_attention")
      fail(ExitCode::kUnsupported, "{}: layer_types: \"{}\" is not supported (sliding_attention, full_attention are)",
           config.where(), type);
    h.windowed[layer] = type == "sliding_attention";
  }
}

Hparams GatedDecoder::hparams_from_config(const Json& json, const std::string& where) const {
  const Json text = text_config(json);
  const ConfigReader config(text, where);
  check_activation(config, traits_.gate);
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
  h.rope_dims = static_cast<uint32_t>(h.head_dim * (traits_.fused ? rotary_share(config) : 1.0));
  h.norm_eps = config.find_number("rms_norm_eps", 1e-30, 1).value_or(1e-6);
  h.tied_embeddings = config.find_bool("tie_word_embeddings").value_or(traits_.default_tied_embeddings);
  const bool attention_bias = config.find_bool("attention_bias").value_or(false);
  const bool mlp_bias = config.find_bool("mlp_bias").value_or(false);
  if (!traits_.attention_bias_key && (attention_bias || mlp_bias))
    fail(ExitCode::kUnsupported, "{}: attention_bias and mlp_bias have no counterpart in GGUF's \"{}\"", where, name());
  h.qkv_bias = traits_.always_qkv_bias || attention_bias;
  h.attn_output_bias = attention_bias;
  h.mlp_bias = mlp_bias;
  experts_from_config(config, h);
  windows_from_config(config, h);
  add_from_config(config, h);
  check_hparams(h, where);
  rope_from_config(config, h);
  return h;
}

Hparams GatedDecoder::hparams_from_gguf(const GgufMetadata& metadata, const std::string& where) const {
  const GgufReader reader(metadata, std::string(name()), where);
  Hparams h;
  h.architecture = name();
  h.n_experts = static_cast<uint32_t>(reader.find_uint("expert_count", 0, kMaxExperts).value_or(0));
  if (h.n_experts > 0 && traits_.experts.router.empty())
    fail(ExitCode::kUnsupported, "{}: mixtures of experts are not supported in architecture \"{}\"", where, name());
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
  if (value_dim != h.head_dim || (h.rope_dims != h.head_dim && !traits_.fused))
    fail(ExitCode::kUnsupported,
         "{}: key heads of {}, value heads of {}, {} rotated dimensions: only one and the same size is supported",
         where, h.head_dim, value_dim, h.rope_dims);
  h.norm_eps = reader.find_number("attention.layer_norm_rms_epsilon", 0, 1).value_or(1e-6);
  if (h.n_experts > 0) {
    h.n_experts_used = reader.uint("expert_used_count", 1, kMaxExperts);
    h.n_ff_expert = static_cast<uint32_t>(reader.find_uint("expert_feed_forward_length", 1, kMaxFfn).value_or(h.n_ff));
  }
  if (traits_.window_period > 0) {
    h.sliding_window = static_cast<uint32_t>(reader.find_uint("attention.sliding_window", 0, kMaxContext).value_or(0));
    if (h.sliding_window > 0 && traits_.window_period > 1)
      h.windowed = reader.find_layers("attention.sliding_window_pattern", h.n_layers)
                       .value_or(layers_with_period(traits_.window_period, h.n_layers));
  }
  add_from_gguf(reader, h);
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
  if (h.n_experts > 0) {
    metadata.set(prefix + "expert_count", GgufValue::u32(h.n_experts));
    metadata.set(prefix + "expert_used_count", GgufValue::u32(h.n_experts_used));
    if (name() != "llama")  // there it is feed_forward_length
      metadata.set(prefix + "expert_feed_forward_length", GgufValue::u32(h.n_ff_expert));
  }
  if (traits_.window_period > 0 && h.sliding_window > 0) {
    metadata.set(prefix + "attention.sliding_window", GgufValue::u32(h.sliding_window));
    if (!h.windowed.empty() && h.windowed != layers_with_period(traits_.window_period, h.n_layers))
      metadata.set(prefix + "attention.sliding_window_pattern", GgufValue::booleans(h.windowed));
  }
  add_to_gguf(h, metadata);
}

void GatedDecoder::list_norm(TensorList& list, std::string_view ours, std::string_view theirs, uint64_t width) const {
  list.norm(ours, theirs, width);
  if (traits_.gemma) list.last().transform = HfTransform::kAddOne;
}

void GatedDecoder::list_attention(const Hparams& h, TensorList& list) const {
  const uint64_t q = uint64_t{h.n_heads} * h.head_dim, kv = uint64_t{h.n_kv_heads} * h.head_dim;
  const bool permuted = traits_.rope_style == RopeSpec::Style::kInterleaved;
  const auto linear = [&](const char* ours, const char* theirs, uint64_t rows, uint64_t cols, Role role, bool bias) {
    list.weight(ours, theirs, {rows, cols}, role);
    if (bias) list.bias(ours, theirs, rows);
  };
  const auto rotated = [&](const char* ours, const char* theirs, uint64_t rows, Role role, uint32_t n_heads) {
    const size_t first = list.size();
    linear(ours, theirs, rows, h.n_embd, role, h.qkv_bias);
    if (permuted) list.interleave_from(first, n_heads);
  };
  if (traits_.fused) {
    linear("attn_qkv", "self_attn.qkv_proj", q + 2 * kv, h.n_embd, Role::kAttnQkv, h.qkv_bias);
  } else {
    rotated("attn_q", "self_attn.q_proj", q, Role::kAttnQ, h.n_heads);
    rotated("attn_k", "self_attn.k_proj", kv, Role::kAttnK, h.n_kv_heads);
    linear("attn_v", "self_attn.v_proj", kv, h.n_embd, Role::kAttnV, h.qkv_bias);
  }
  linear("attn_output", "self_attn.o_proj", h.n_embd, q, Role::kAttnOutput, h.attn_output_bias);
  if (traits_.qk_norm) {
    list_norm(list, "attn_q_norm", "self_attn.q_norm", h.head_dim);
    list_norm(list, "attn_k_norm", "self_attn.k_norm", h.head_dim);
  }
  if (traits_.sinks) {
    list.norm("attn_sinks", "self_attn.sinks", h.n_heads);
    list.last().hf_name = list.last().hf_name.substr(0, list.last().hf_name.rfind('.'));  // it has no ".weight"
  }
}

void GatedDecoder::list_feed_forward(const Hparams& h, TensorList& list) const {
  if (h.n_experts > 0) {
    list.weight("ffn_gate_inp", traits_.experts.router, {h.n_experts, h.n_embd}, Role::kOther);
    list.last().quantizable = false;
    if (h.mlp_bias) list.bias("ffn_gate_inp", traits_.experts.router, h.n_experts);
    return list_experts(h, list);
  }
  const auto linear = [&](const char* ours, const char* theirs, uint64_t rows, uint64_t cols, Role role) {
    list.weight(ours, theirs, {rows, cols}, role);
    if (h.mlp_bias) list.bias(ours, theirs, rows);
  };
  if (traits_.fused) {
    linear("ffn_up", "mlp.gate_up_proj", 2 * uint64_t{h.n_ff}, h.n_embd, Role::kFfnUp);
  } else {
    linear("ffn_gate", "mlp.gate_proj", h.n_ff, h.n_embd, Role::kFfnGate);
    linear("ffn_up", "mlp.up_proj", h.n_ff, h.n_embd, Role::kFfnUp);
  }
  linear("ffn_down", "mlp.down_proj", h.n_embd, h.n_ff, Role::kFfnDown);
}

void GatedDecoder::list_experts(const Hparams& h, TensorList& list) const {
  const ExpertNames& names = traits_.experts;
  list.experts("ffn_gate_exps", names.gate, {h.n_experts, h.n_ff_expert, h.n_embd}, Role::kFfnGate);
  list.experts("ffn_up_exps", names.up, {h.n_experts, h.n_ff_expert, h.n_embd}, Role::kFfnUp);
  list.experts("ffn_down_exps", names.down, {h.n_experts, h.n_embd, h.n_ff_expert}, Role::kFfnDown);
}

std::vector<TensorSpec> GatedDecoder::tensors(const Hparams& h) const {
  TensorList list;
  const RopeScaling& rope = h.rope_scaling;
  if (!rope.frequency_factors.empty()) list.computed("rope_freqs.weight", rope.frequency_factors);
  if (!rope.long_factors.empty()) list.computed("rope_factors_long.weight", rope.long_factors);
  if (!rope.short_factors.empty()) list.computed("rope_factors_short.weight", rope.short_factors);
  list.weight("token_embd", "model.embed_tokens", {h.n_vocab, h.n_embd}, Role::kTokenEmbedding);
  for (uint32_t layer = 0; layer < h.n_layers; ++layer) {
    list.enter_block(layer, "model.layers.");
    list_norm(list, "attn_norm", "input_layernorm", h.n_embd);
    list_attention(h, list);
    if (traits_.gemma) {
      list_norm(list, "post_attention_norm", "post_attention_layernorm", h.n_embd);
      list_norm(list, "ffn_norm", "pre_feedforward_layernorm", h.n_embd);
    } else {
      list.norm(traits_.ffn_norm, "post_attention_layernorm", h.n_embd);
    }
    list_feed_forward(h, list);
    if (traits_.gemma) list_norm(list, "post_ffw_norm", "post_feedforward_layernorm", h.n_embd);
  }
  list.leave_blocks();
  list_norm(list, "output_norm", "model.norm", h.n_embd);
  if (!h.tied_embeddings) list.weight("output", "lm_head", {h.n_vocab, h.n_embd}, Role::kOutput);
  return list.finish();
}

ValueId GatedDecoder::attention(GraphBuilder& g, const Hparams& h, uint32_t layer, ValueId x) const {
  const uint32_t q_width = h.n_heads * h.head_dim, kv_width = h.n_kv_heads * h.head_dim;
  const auto eps = static_cast<float>(h.norm_eps);
  const auto weight = [&](std::string_view name) { return block(layer, name) + ".weight"; };
  const auto linear = [&](ValueId input, std::string_view name, uint32_t width, bool bias) {
    return g.linear(input, weight(name), width, bias ? block(layer, name) + ".bias" : std::string());
  };
  const ValueId input = g.rms_norm(x, weight("attn_norm"), eps);
  ValueId q, k, v;
  if (traits_.fused) {
    const ValueId qkv = linear(input, "attn_qkv", q_width + 2 * kv_width, h.qkv_bias);
    q = g.slice(qkv, 0, q_width);
    k = g.slice(qkv, q_width, kv_width);
    v = g.slice(qkv, q_width + kv_width, kv_width);
  } else {
    q = linear(input, "attn_q", q_width, h.qkv_bias);
    k = linear(input, "attn_k", kv_width, h.qkv_bias);
    v = linear(input, "attn_v", kv_width, h.qkv_bias);
  }
  if (traits_.qk_norm) {
    q = g.rms_norm(q, weight("attn_q_norm"), eps, h.head_dim);
    k = g.rms_norm(k, weight("attn_k_norm"), eps, h.head_dim);
  }
  const bool windowed = h.is_windowed(layer);
  const RopeSpec rope = windowed ? make_local_rope(h, traits_.rope_style) : make_rope(h, traits_.rope_style);
  q = g.rope(q, rope, h.n_heads, h.head_dim);
  k = g.rope(k, rope, h.n_kv_heads, h.head_dim);
  const ValueId heads = g.attention(q, k, v,
                                    {.n_heads = h.n_heads,
                                     .n_kv_heads = h.n_kv_heads,
                                     .head_dim = h.head_dim,
                                     .scale = static_cast<float>(h.attention_scale),
                                     .sliding_window = windowed ? h.sliding_window : 0,
                                     .softcap = static_cast<float>(h.attention_softcap),
                                     .sinks = traits_.sinks ? weight("attn_sinks") : std::string()});
  const ValueId out = linear(heads, "attn_output", h.n_embd, h.attn_output_bias);
  return traits_.gemma ? g.rms_norm(out, weight("post_attention_norm"), eps) : out;
}

ValueId GatedDecoder::feed_forward(GraphBuilder& g, const Hparams& h, uint32_t layer, ValueId x) const {
  const auto eps = static_cast<float>(h.norm_eps);
  const auto weight = [&](std::string_view name) { return block(layer, name) + ".weight"; };
  const auto bias = [&](std::string_view name) {
    return h.mlp_bias ? block(layer, name) + ".bias" : std::string();
  };
  const ValueId input = g.rms_norm(x, weight(traits_.ffn_norm), eps);
  if (h.n_experts > 0) {
    const ValueId scores = g.linear(input, weight("ffn_gate_inp"), h.n_experts, bias("ffn_gate_inp"));
    const ValueId route = g.route(scores, {.n_experts = h.n_experts, .n_used = h.n_experts_used});
    const auto experts = [&](ValueId from, std::string_view name, uint32_t width) {
      return g.expert_linear(from, route, weight(name), width, bias(name));
    };
    const ValueId gate = experts(input, "ffn_gate_exps", h.n_ff_expert);
    const ValueId up = experts(input, "ffn_up_exps", h.n_ff_expert);
    return g.expert_sum(experts(g.gate_op(traits_.gate, gate, up), "ffn_down_exps", h.n_embd), route);
  }
  ValueId gate, up;
  if (traits_.fused) {
    const ValueId both = g.linear(input, weight("ffn_up"), 2 * h.n_ff, bias("ffn_up"));
    gate = g.slice(both, 0, h.n_ff);
    up = g.slice(both, h.n_ff, h.n_ff);
  } else {
    gate = g.linear(input, weight("ffn_gate"), h.n_ff, bias("ffn_gate"));
    up = g.linear(input, weight("ffn_up"), h.n_ff, bias("ffn_up"));
  }
  const ValueId out = g.linear(g.gate_op(traits_.gate, gate, up), weight("ffn_down"), h.n_embd, bias("ffn_down"));
  return traits_.gemma ? g.rms_norm(out, weight("post_ffw_norm"), eps) : out;
}

Graph GatedDecoder::graph(const Hparams& h) const {
  GraphBuilder g;
  ValueId x = g.embed("token_embd.weight", h.n_embd);
  if (traits_.gemma) x = g.scale(x, std::sqrt(static_cast<float>(h.n_embd)));
  for (uint32_t layer = 0; layer < h.n_layers; ++layer) {
    g.set_layer(static_cast<int>(layer));
    x = g.add(x, attention(g, h, layer, x));
    x = g.add(x, feed_forward(g, h, layer, x));
  }
  g.set_layer(-1);
  x = g.rms_norm(x, "output_norm.weight", static_cast<float>(h.norm_eps));
  const ValueId logits = g.linear(x, h.tied_embeddings ? "token_embd.weight" : "output.weight", h.n_vocab);
  if (h.logit_softcap != 0) g.softcap(static_cast<float>(h.logit_softcap));
  return g.finish(logits);
}

}  // namespace tsubu
