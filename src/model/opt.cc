// OPT: learned positions that begin at row 2, LayerNorm before attention and feed-forward, a ReLU, a head tied to the
// embedding. There is no such architecture in llama.cpp: the GGUF, named "opt", is this program's own.
// Source: arXiv:2205.01068 and transformers' configuration.
#include "base/error.h"
#include "model/architecture_list.h"
#include "model/layer_norm_decoder.h"

namespace tsubu {
namespace {

class Opt : public LayerNormDecoder {
 public:
  std::string_view name() const override { return "opt"; }
  std::span<const std::string_view> hf_architectures() const override {
    static constexpr std::string_view kNames[] = {"OPTForCausalLM"};
    return kNames;
  }
  std::span<const std::string_view> hf_model_types() const override {
    static constexpr std::string_view kTypes[] = {"opt"};
    return kTypes;
  }
  std::string_view summary() const override { return "OPT (GGUF is read by this program only)"; }

  Hparams hparams_from_config(const Json& json, const std::string& where) const override {
    const ConfigReader config(json, where);
    Hparams h = common_from_config(config, "ffn_dim");
    h.norm_eps = 1e-5;
    h.tied_embeddings = config.find_bool("tie_word_embeddings").value_or(true);
    h.activation = config.find_string("activation_function").value_or("relu");
    activation_named(h.activation, where);
    const uint64_t projected = config.find_uint({"word_embed_proj_dim"}, 1, kMaxWidth).value_or(h.n_embd);
    if (projected != h.n_embd || !config.find_bool("do_layer_norm_before").value_or(true) ||
        config.find_bool("_remove_final_layer_norm").value_or(false))
      fail(ExitCode::kUnsupported,
           "{}: embeddings of another width than the blocks' (word_embed_proj_dim {}, hidden_size {}), norms behind "
           "attention and models without a last norm are not supported",
           where, projected, h.n_embd);
    if (!config.find_bool("enable_bias").value_or(true) ||
        !config.find_bool("layer_norm_elementwise_affine").value_or(true))
      fail(ExitCode::kUnsupported, "{}: linears without biases and norms without weights are not supported", where);
    return finish(std::move(h), where);
  }

  std::vector<TensorSpec> tensors(const Hparams& h) const override {
    BiasedList t;
    t.list.weight("token_embd", "model.decoder.embed_tokens", {h.n_vocab, h.n_embd}, Role::kTokenEmbedding);
    t.list.weight("position_embd", "model.decoder.embed_positions", {uint64_t{h.n_ctx} + kFirstPosition, h.n_embd},
                  Role::kPositionEmbedding);
    for (uint32_t layer = 0; layer < h.n_layers; ++layer) {
      t.list.enter_block(layer, "model.decoder.layers.");
      t.norm("attn_norm", "self_attn_layer_norm", h.n_embd);
      t.linear("attn_q", "self_attn.q_proj", h.n_embd, h.n_embd, Role::kAttnQ);
      t.linear("attn_k", "self_attn.k_proj", h.n_embd, h.n_embd, Role::kAttnK);
      t.linear("attn_v", "self_attn.v_proj", h.n_embd, h.n_embd, Role::kAttnV);
      t.linear("attn_output", "self_attn.out_proj", h.n_embd, h.n_embd, Role::kAttnOutput);
      t.norm("ffn_norm", "final_layer_norm", h.n_embd);
      t.linear("ffn_up", "fc1", h.n_ff, h.n_embd, Role::kFfnUp);
      t.linear("ffn_down", "fc2", h.n_embd, h.n_ff, Role::kFfnDown);
    }
    t.list.leave_blocks();
    t.norm("output_norm", "model.decoder.final_layer_norm", h.n_embd);
    if (!h.tied_embeddings) t.list.weight("output", "lm_head", {h.n_vocab, h.n_embd}, Role::kOutput);
    return t.list.finish();
  }

  Graph graph(const Hparams& h) const override {
    BiasedGraph b(static_cast<float>(h.norm_eps));
    const OpKind activation = activation_named(h.activation, std::string(name()));
    ValueId x = b.g.add_position(b.g.embed("token_embd.weight", h.n_embd), "position_embd.weight", kFirstPosition);
    for (uint32_t layer = 0; layer < h.n_layers; ++layer) {
      b.enter_block(layer);
      const ValueId input = b.norm(x, "attn_norm");
      const ValueId q = b.linear(input, "attn_q", h.n_embd), k = b.linear(input, "attn_k", h.n_embd);
      const ValueId v = b.linear(input, "attn_v", h.n_embd);
      x = b.g.add(x, b.linear(b.g.attention(q, k, v, h.n_heads, h.n_heads, h.head_dim), "attn_output", h.n_embd));
      const ValueId up = b.linear(b.norm(x, "ffn_norm"), "ffn_up", h.n_ff);
      x = b.g.add(x, b.linear(b.g.activation(activation, up), "ffn_down", h.n_embd));
    }
    b.leave_blocks();
    x = b.norm(x, "output_norm");
    return b.g.finish(b.g.linear(x, h.tied_embeddings ? "token_embd.weight" : "output.weight", h.n_vocab));
  }

 protected:
  void add_from_gguf(const GgufReader& metadata, Hparams& h) const override {
    h.activation = metadata.find_string("activation_function").value_or("relu");
    activation_named(h.activation, metadata.where());
  }
  void add_to_gguf(const Hparams& h, GgufMetadata& metadata) const override {
    metadata.set("opt.activation_function", GgufValue::string(h.activation));
  }

 private:
  static constexpr uint32_t kFirstPosition = 2;  // the first rows belonged to padding
};

}  // namespace

const Architecture& opt_architecture() {
  static const Opt architecture;
  return architecture;
}

}  // namespace tsubu
