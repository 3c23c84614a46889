// BLOOM: no positions but a penalty on the distance of keys (ALiBi), a LayerNorm behind the embedding, one matrix for q, k
// and v whose rows lie head by head in Hugging Face, GELU, a head tied to the embedding; GGUF's "bloom".
// Sources: arXiv:2211.05100; ALiBi: arXiv:2108.12409.
#include "base/error.h"
#include "model/architecture_list.h"
#include "model/layer_norm_decoder.h"

namespace tsubu {
namespace {

class Bloom : public LayerNormDecoder {
 public:
  std::string_view name() const override { return "bloom"; }
  std::span<const std::string_view> hf_architectures() const override {
    static constexpr std::string_view kNames[] = {"BloomForCausalLM"};
    return kNames;
  }
  std::span<const std::string_view> hf_model_types() const override {
    static constexpr std::string_view kTypes[] = {"bloom"};
    return kTypes;
  }
  std::string_view summary() const override { return "BLOOM, BLOOMZ"; }

  Hparams hparams_from_config(const Json& json, const std::string& where) const override {
    const ConfigReader config(json, where);
    Hparams h;
    h.architecture = name();
    h.n_layers = config.uint({"n_layer", "num_hidden_layers"}, 1, kMaxLayers);
    h.n_embd = config.uint({"hidden_size", "n_embed"}, 1, kMaxWidth / 4);
    h.n_ff = 4 * h.n_embd;
    h.n_heads = h.n_kv_heads = config.uint({"n_head", "num_attention_heads"}, 1, kMaxHeads);
    h.n_vocab = config.uint({"vocab_size"}, 1, kMaxVocab);
    // Nothing in the model ends a sequence; this is what it was trained on.
    h.n_ctx = static_cast<uint32_t>(config.find_uint({"seq_length"}, 1, kMaxFfn).value_or(2048));
    h.norm_eps = config.find_number("layer_norm_epsilon", 1e-30, 1).value_or(1e-5);
    h.tied_embeddings = config.find_bool("tie_word_embeddings").value_or(true);
    if (config.find_bool("apply_residual_connection_post_layernorm").value_or(false))
      fail(ExitCode::kUnsupported, "{}: apply_residual_connection_post_layernorm is not supported", where);
    return finish(std::move(h), where);
  }

  std::vector<TensorSpec> tensors(const Hparams& h) const override {
    BiasedList t;
    t.list.weight("token_embd", "transformer.word_embeddings", {h.n_vocab, h.n_embd}, Role::kTokenEmbedding);
    t.norm("token_embd_norm", "transformer.word_embeddings_layernorm", h.n_embd);
    for (uint32_t layer = 0; layer < h.n_layers; ++layer) {
      t.list.enter_block(layer, "transformer.h.");
      t.norm("attn_norm", "input_layernorm", h.n_embd);
      t.linear("attn_qkv", "self_attention.query_key_value", uint64_t{3} * h.n_embd, h.n_embd, Role::kAttnQkv, h.n_heads);
      t.linear("attn_output", "self_attention.dense", h.n_embd, h.n_embd, Role::kAttnOutput);
      t.norm("ffn_norm", "post_attention_layernorm", h.n_embd);
      t.linear("ffn_up", "mlp.dense_h_to_4h", h.n_ff, h.n_embd, Role::kFfnUp);
      t.linear("ffn_down", "mlp.dense_4h_to_h", h.n_embd, h.n_ff, Role::kFfnDown);
    }
    t.list.leave_blocks();
    t.norm("output_norm", "transformer.ln_f", h.n_embd);
    if (!h.tied_embeddings) t.list.weight("output", "lm_head", {h.n_vocab, h.n_embd}, Role::kOutput);
    return t.list.finish();
  }

  Graph graph(const Hparams& h) const override {
    constexpr float kMaxBias = 8;  // the slopes of the heads go from 2^(-8/n) to 2^-8
    BiasedGraph b(static_cast<float>(h.norm_eps));
    ValueId x = b.norm(b.g.embed("token_embd.weight", h.n_embd), "token_embd_norm");
    for (uint32_t layer = 0; layer < h.n_layers; ++layer) {
      b.enter_block(layer);
      const auto [q, k, v] = b.split(b.linear(b.norm(x, "attn_norm"), "attn_qkv", 3 * h.n_embd), h.n_embd);
      const ValueId heads = b.g.attention(
          q, k, v,
          {.n_heads = h.n_heads, .n_kv_heads = h.n_heads, .head_dim = h.head_dim, .max_alibi_bias = kMaxBias});
      x = b.g.add(x, b.linear(heads, "attn_output", h.n_embd));
      x = b.g.add(x, b.linear(b.g.gelu(b.linear(b.norm(x, "ffn_norm"), "ffn_up", h.n_ff)), "ffn_down", h.n_embd));
    }
    b.leave_blocks();
    x = b.norm(x, "output_norm");
    return b.g.finish(b.g.linear(x, h.tied_embeddings ? "token_embd.weight" : "output.weight", h.n_vocab));
  }
};

}  // namespace

const Architecture& bloom_architecture() {
  static const Bloom architecture;
  return architecture;
}

}  // namespace tsubu
