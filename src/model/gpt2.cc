// GPT-2: learned positions, LayerNorm, one fused q/k/v projection, GELU feed-forward, a head tied to the embedding.
// Hugging Face keeps its projections as Conv1D, (inputs, outputs): they are transposed on the way.
// Source: Radford et al., "Language Models are Unsupervised Multitask Learners" (2019).
#include "base/error.h"
#include "model/architecture_list.h"
#include "model/layer_norm_decoder.h"

namespace tsubu {
namespace {

void refuse_variants(const ConfigReader& config) {
  const std::string activation = config.find_string("activation_function").value_or("gelu_new");
  if (activation != "gelu_new" && activation != "gelu_pytorch_tanh")
    fail(ExitCode::kUnsupported, "{}: activation_function \"{}\" is not supported (gelu_new is)", config.where(),
         activation);
  if (!config.find_bool("scale_attn_weights").value_or(true) ||
      config.find_bool("scale_attn_by_inverse_layer_idx").value_or(false) ||
      config.find_bool("add_cross_attention").value_or(false))
    fail(ExitCode::kUnsupported,
         "{}: unscaled attention, attention scaled by the layer's index and cross attention are not supported",
         config.where());
}

class Gpt2 : public LayerNormDecoder {
 public:
  std::string_view name() const override { return "gpt2"; }
  std::span<const std::string_view> hf_architectures() const override {
    static constexpr std::string_view kNames[] = {"GPT2LMHeadModel"};
    return kNames;
  }
  std::span<const std::string_view> hf_model_types() const override {
    static constexpr std::string_view kTypes[] = {"gpt2"};
    return kTypes;
  }
  std::string_view summary() const override { return "GPT-2, all sizes"; }

  Hparams hparams_from_config(const Json& json, const std::string& where) const override {
    const ConfigReader config(json, where);
    refuse_variants(config);
    Hparams h;
    h.architecture = name();
    h.n_layers = config.uint({"n_layer", "num_hidden_layers"}, 1, kMaxLayers);
    h.n_embd = config.uint({"n_embd", "hidden_size"}, 1, kMaxWidth);
    h.n_ff = static_cast<uint32_t>(config.find_uint({"n_inner"}, 1, kMaxFfn).value_or(uint64_t{4} * h.n_embd));
    h.n_heads = h.n_kv_heads = config.uint({"n_head", "num_attention_heads"}, 1, kMaxHeads);
    h.n_vocab = config.uint({"vocab_size"}, 1, kMaxVocab);
    h.n_ctx = config.uint({"n_positions", "n_ctx", "max_position_embeddings"}, 1, kMaxFfn);
    h.norm_eps = config.find_number("layer_norm_epsilon", 1e-30, 1).value_or(1e-5);
    h.tied_embeddings = config.find_bool("tie_word_embeddings").value_or(true);
    return finish(std::move(h), where);
  }

  std::vector<TensorSpec> tensors(const Hparams& h) const override {
    TensorList list;
    list.weight("token_embd", "transformer.wte", {h.n_vocab, h.n_embd}, Role::kTokenEmbedding);
    list.weight("position_embd", "transformer.wpe", {h.n_ctx, h.n_embd}, Role::kPositionEmbedding);
    const auto norm = [&](const char* ours, const char* theirs) {
      list.norm(ours, theirs, h.n_embd);
      list.bias(ours, theirs, h.n_embd);
    };
    const auto linear = [&](const char* ours, const char* theirs, uint64_t rows, uint64_t cols, Role role) {
      list.weight(ours, theirs, {rows, cols}, role);
      list.last().transform = HfTransform::kTranspose;
      list.bias(ours, theirs, rows);
    };
    for (uint32_t layer = 0; layer < h.n_layers; ++layer) {
      list.enter_block(layer, "transformer.h.");
      norm("attn_norm", "ln_1");
      linear("attn_qkv", "attn.c_attn", uint64_t{3} * h.n_embd, h.n_embd, Role::kAttnQkv);
      linear("attn_output", "attn.c_proj", h.n_embd, h.n_embd, Role::kAttnOutput);
      norm("ffn_norm", "ln_2");
      linear("ffn_up", "mlp.c_fc", h.n_ff, h.n_embd, Role::kFfnUp);
      linear("ffn_down", "mlp.c_proj", h.n_embd, h.n_ff, Role::kFfnDown);
    }
    list.leave_blocks();
    norm("output_norm", "transformer.ln_f");
    if (!h.tied_embeddings) list.weight("output", "lm_head", {h.n_vocab, h.n_embd}, Role::kOutput);
    return list.finish();
  }

  Graph graph(const Hparams& h) const override {
    const auto eps = static_cast<float>(h.norm_eps);
    GraphBuilder g;
    std::string prefix;
    const auto norm = [&](ValueId x, std::string_view ours) {
      return g.layer_norm(x, fmt::format("{}{}.weight", prefix, ours), fmt::format("{}{}.bias", prefix, ours), eps);
    };
    const auto linear = [&](ValueId x, std::string_view ours, uint32_t width) {
      return g.linear(x, fmt::format("{}{}.weight", prefix, ours), width, fmt::format("{}{}.bias", prefix, ours));
    };
    ValueId x = g.add_position(g.embed("token_embd.weight", h.n_embd), "position_embd.weight");
    for (uint32_t layer = 0; layer < h.n_layers; ++layer) {
      g.set_layer(static_cast<int>(layer));
      prefix = fmt::format("blk.{}.", layer);
      const ValueId qkv = linear(norm(x, "attn_norm"), "attn_qkv", 3 * h.n_embd);
      const ValueId q = g.slice(qkv, 0, h.n_embd);
      const ValueId k = g.slice(qkv, h.n_embd, h.n_embd);
      const ValueId v = g.slice(qkv, 2 * h.n_embd, h.n_embd);
      x = g.add(x, linear(g.attention(q, k, v, h.n_heads, h.n_kv_heads, h.head_dim), "attn_output", h.n_embd));
      x = g.add(x, linear(g.gelu(linear(norm(x, "ffn_norm"), "ffn_up", h.n_ff)), "ffn_down", h.n_embd));
    }
    g.set_layer(-1);
    prefix.clear();
    x = norm(x, "output_norm");
    return g.finish(g.linear(x, h.tied_embeddings ? "token_embd.weight" : "output.weight", h.n_vocab));
  }
};

}  // namespace

const Architecture& gpt2_architecture() {
  static const Gpt2 architecture;
  return architecture;
}

}  // namespace tsubu
