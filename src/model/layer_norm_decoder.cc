// LayerNormDecoder; see layer_norm_decoder.h.
#include "model/layer_norm_decoder.h"

#include "base/error.h"

namespace tsubu {

Hparams LayerNormDecoder::hparams_from_gguf(const GgufMetadata& metadata, const std::string& where) const {
  const GgufReader reader(metadata, std::string(name()), where);
  Hparams h;
  h.architecture = name();
  h.n_layers = reader.uint("block_count", 1, kMaxLayers);
  h.n_embd = reader.uint("embedding_length", 1, kMaxWidth);
  h.n_ff = reader.uint("feed_forward_length", 1, kMaxFfn);
  h.n_heads = h.n_kv_heads = reader.uint("attention.head_count", 1, kMaxHeads);
  if (reader.find_uint("attention.head_count_kv", 1, kMaxHeads).value_or(h.n_heads) != h.n_heads)
    fail(ExitCode::kUnsupported, "{}: architecture \"{}\" with fewer key/value heads than heads", where, name());
  h.n_vocab = vocabulary_size_from_gguf(metadata, reader);
  h.n_ctx = reader.uint("context_length", 1, kMaxFfn);
  h.norm_eps = reader.find_number("attention.layer_norm_epsilon", 0, 1).value_or(1e-5);
  add_from_gguf(reader, h);
  return finish(std::move(h), where);
}

void LayerNormDecoder::hparams_to_gguf(const Hparams& h, GgufMetadata& metadata) const {
  const std::string prefix = std::string(name()) + ".";
  metadata.set(prefix + "block_count", GgufValue::u32(h.n_layers));
  metadata.set(prefix + "context_length", GgufValue::u32(h.n_ctx));
  metadata.set(prefix + "embedding_length", GgufValue::u32(h.n_embd));
  metadata.set(prefix + "feed_forward_length", GgufValue::u32(h.n_ff));
  metadata.set(prefix + "attention.head_count", GgufValue::u32(h.n_heads));
  metadata.set(prefix + "attention.head_count_kv", GgufValue::u32(h.n_kv_heads));
  metadata.set(prefix + "attention.layer_norm_epsilon", GgufValue::f32(static_cast<float>(h.norm_eps)));
  add_to_gguf(h, metadata);
}

Hparams LayerNormDecoder::common_from_config(const ConfigReader& config, std::string_view ffn) const {
  Hparams h;
  h.architecture = name();
  h.n_layers = config.uint({"num_hidden_layers"}, 1, kMaxLayers);
  h.n_embd = config.uint({"hidden_size"}, 1, kMaxWidth);
  h.n_ff = config.uint({ffn}, 1, kMaxFfn);
  h.n_heads = h.n_kv_heads = config.uint({"num_attention_heads"}, 1, kMaxHeads);
  h.n_vocab = config.uint({"vocab_size"}, 1, kMaxVocab);
  h.n_ctx = config.uint({"max_position_embeddings"}, 1, kMaxFfn);
  return h;
}

Hparams LayerNormDecoder::finish(Hparams h, const std::string& where) {
  if (h.n_embd % h.n_heads != 0)
    fail(ExitCode::kBadInput, "{}: an embedding of {} is no multiple of {} heads", where, h.n_embd, h.n_heads);
  h.head_dim = h.n_embd / h.n_heads;
  h.qkv_bias = h.attn_output_bias = h.mlp_bias = true;
  check_hparams(h, where);
  return h;
}

void BiasedList::norm(const char* ours, const char* theirs, uint64_t width) {
  list.norm(ours, theirs, width);
  list.bias(ours, theirs, width);
}

void BiasedList::linear(const char* ours, const char* theirs, uint64_t rows, uint64_t cols, Role role,
                        uint32_t split_heads) {
  const auto split = [&] {
    if (split_heads == 0) return;
    list.last().transform = HfTransform::kSplitHeads;
    list.last().n_heads = split_heads;
  };
  list.weight(ours, theirs, {rows, cols}, role);
  split();
  list.bias(ours, theirs, rows);
  split();
}

void BiasedGraph::enter_block(uint32_t layer) {
  g.set_layer(static_cast<int>(layer));
  prefix_ = fmt::format("blk.{}.", layer);
}

void BiasedGraph::leave_blocks() {
  g.set_layer(-1);
  prefix_.clear();
}

ValueId BiasedGraph::norm(ValueId x, std::string_view name) {
  return g.layer_norm(x, fmt::format("{}{}.weight", prefix_, name), fmt::format("{}{}.bias", prefix_, name), eps_);
}

ValueId BiasedGraph::linear(ValueId x, std::string_view name, uint32_t width) {
  return g.linear(x, fmt::format("{}{}.weight", prefix_, name), width, fmt::format("{}{}.bias", prefix_, name));
}

BiasedGraph::Heads BiasedGraph::split(ValueId qkv, uint32_t n_embd) {
  const ValueId q = g.slice(qkv, 0, n_embd), k = g.slice(qkv, n_embd, n_embd);
  return {q, k, g.slice(qkv, 2 * n_embd, n_embd)};
}

OpKind activation_named(const std::string& name, const std::string& where) {
  if (name == "gelu") return OpKind::kGeluErf;
  if (name == "gelu_new" || name == "gelu_fast" || name == "gelu_pytorch_tanh") return OpKind::kGelu;
  if (name == "relu") return OpKind::kRelu;
  fail(ExitCode::kUnsupported, "{}: activation \"{}\" is not supported (relu, gelu, gelu_new, gelu_fast are)", where,
       name);
}

}  // namespace tsubu
