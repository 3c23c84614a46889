// GPT-NeoX (Pythia, Dolly, RedPajama …): rotary positions on a part of each head, attention and feed-forward beside each
// other on one stream, one matrix for q, k and v whose rows lie head by head in Hugging Face; GGUF's "gptneox". That GGUF
// does not say which GELU the model has, and llama.cpp always takes the tanh form; here the exact one is meant unless
// "gptneox.activation_function" says otherwise. Source: arXiv:2204.06745.
#include "base/error.h"
#include "model/architecture_list.h"
#include "model/layer_norm_decoder.h"
#include "model/rope_scaling.h"

namespace tsubu {
namespace {

class GptNeoX : public LayerNormDecoder {
 public:
  std::string_view name() const override { return "gptneox"; }
  std::span<const std::string_view> hf_architectures() const override {
    static constexpr std::string_view kNames[] = {"GPTNeoXForCausalLM"};
    return kNames;
  }
  std::span<const std::string_view> hf_model_types() const override {
    static constexpr std::string_view kTypes[] = {"gpt_neox"};
    return kTypes;
  }
  std::string_view summary() const override { return "GPT-NeoX, Pythia, and their like"; }

  Hparams hparams_from_config(const Json& json, const std::string& where) const override {
    const ConfigReader config(json, where);
    Hparams h = common_from_config(config, "intermediate_size");
    h.norm_eps = config.find_number("layer_norm_eps", 1e-30, 1).value_or(1e-5);
    h.tied_embeddings = config.find_bool("tie_word_embeddings").value_or(false);
    h.parallel_residual = config.find_bool("use_parallel_residual").value_or(true);
    h.activation = config.find_string("hidden_act").value_or("gelu");
    activation_named(h.activation, where);
    if (!config.find_bool("attention_bias").value_or(true))
      fail(ExitCode::kUnsupported, "{}: \"attention_bias\": false has no counterpart in GGUF's \"gptneox\"", where);
    h = finish(std::move(h), where);
    h.rope_dims = static_cast<uint32_t>(rotary_share(config, "rotary_pct") * h.head_dim);
    h.rope_base = config.find_number("rotary_emb_base", 1.0 + 1e-6, 1e15).value_or(10000);
    check_hparams(h, where);
    rope_from_config(config, h);
    return h;
  }

  std::vector<TensorSpec> tensors(const Hparams& h) const override {
    BiasedList t;
    t.list.weight("token_embd", "gpt_neox.embed_in", {h.n_vocab, h.n_embd}, Role::kTokenEmbedding);
    for (uint32_t layer = 0; layer < h.n_layers; ++layer) {
      t.list.enter_block(layer, "gpt_neox.layers.");
      t.norm("attn_norm", "input_layernorm", h.n_embd);
      t.linear("attn_qkv", "attention.query_key_value", uint64_t{3} * h.n_embd, h.n_embd, Role::kAttnQkv, h.n_heads);
      t.linear("attn_output", "attention.dense", h.n_embd, h.n_embd, Role::kAttnOutput);
      t.norm("ffn_norm", "post_attention_layernorm", h.n_embd);
      t.linear("ffn_up", "mlp.dense_h_to_4h", h.n_ff, h.n_embd, Role::kFfnUp);
      t.linear("ffn_down", "mlp.dense_4h_to_h", h.n_embd, h.n_ff, Role::kFfnDown);
    }
    t.list.leave_blocks();
    t.norm("output_norm", "gpt_neox.final_layer_norm", h.n_embd);
    if (!h.tied_embeddings) t.list.weight("output", "embed_out", {h.n_vocab, h.n_embd}, Role::kOutput);
    return t.list.finish();
  }

  Graph graph(const Hparams& h) const override {
    BiasedGraph b(static_cast<float>(h.norm_eps));
    const OpKind activation = activation_named(h.activation, std::string(name()));
    const RopeSpec rope = make_rope(h, RopeSpec::Style::kHalfSplit);
    ValueId x = b.g.embed("token_embd.weight", h.n_embd);
    for (uint32_t layer = 0; layer < h.n_layers; ++layer) {
      b.enter_block(layer);
      const auto heads = b.split(b.linear(b.norm(x, "attn_norm"), "attn_qkv", 3 * h.n_embd), h.n_embd);
      const ValueId q = b.g.rope(heads.q, rope, h.n_heads, h.head_dim);
      const ValueId k = b.g.rope(heads.k, rope, h.n_heads, h.head_dim);
      const ValueId attended =
          b.linear(b.g.attention(q, k, heads.v, h.n_heads, h.n_heads, h.head_dim), "attn_output", h.n_embd);
      const auto feed_forward = [&](ValueId from) {
        const ValueId up = b.linear(b.norm(from, "ffn_norm"), "ffn_up", h.n_ff);
        return b.linear(b.g.activation(activation, up), "ffn_down", h.n_embd);
      };
      if (h.parallel_residual) {
        x = b.g.add(b.g.add(x, feed_forward(x)), attended);
      } else {
        x = b.g.add(x, attended);
        x = b.g.add(x, feed_forward(x));
      }
    }
    b.leave_blocks();
    x = b.norm(x, "output_norm");
    return b.g.finish(b.g.linear(x, h.tied_embeddings ? "token_embd.weight" : "output.weight", h.n_vocab));
  }

 protected:
  void add_from_gguf(const GgufReader& metadata, Hparams& h) const override {
    h.parallel_residual = metadata.find_bool("use_parallel_residual").value_or(true);
    h.activation = metadata.find_string("activation_function").value_or("gelu");
    activation_named(h.activation, metadata.where());
    if (h.n_embd % h.n_heads != 0) return;  // refused when everything is read
    h.head_dim = h.n_embd / h.n_heads;
    h.rope_dims = metadata.uint("rope.dimension_count", 1, kMaxHeadDim);
    check_hparams(h, metadata.where());
    rope_from_gguf(metadata, h);
  }
  void add_to_gguf(const Hparams& h, GgufMetadata& metadata) const override {
    metadata.set("gptneox.use_parallel_residual", GgufValue::boolean(h.parallel_residual));
    metadata.set("gptneox.activation_function", GgufValue::string(h.activation));
    rope_to_gguf(h, metadata);
  }
};

}  // namespace

const Architecture& gptneox_architecture() {
  static const GptNeoX architecture;
  return architecture;
}

}  // namespace tsubu
