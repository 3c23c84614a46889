// DeepSeek V2 and V3 (R1): latent attention and mixtures with experts that see every token; GGUF's "deepseek2".
//
// Keys and values of all heads are linear in one latent vector of a token, c = norm(W_kv_a x), besides a part of the key that
// is rotated and shared by the heads. A head's score q · (K c) is (Kᵀ q) · c, so attention runs on the latents themselves:
// one key of kv_latent + rotated values for all heads, the latent as the value, and a matrix of each head before (attn_k_b,
// that is Kᵀ) and behind (attn_v_b). The cache holds one head, however many there are. Hugging Face keeps K and V of each head
// as rows of one matrix (kv_b_proj), as older GGUF files do (attn_kv_b).
//
// The router of V2 takes shares of a softmax over all experts, that of V3 sigmoids, chosen with a bias and divided by their
// sum; experts come in groups of which the best are chosen from. Sources: arXiv:2405.04434, arXiv:2412.19437, their code.
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "model/architecture_list.h"
#include "model/config_reader.h"
#include "model/rope_scaling.h"
#include "model/tensor_list.h"

namespace tsubu {
namespace {

constexpr uint32_t kSoftmaxGate = 1, kSigmoidGate = 2;  // GGUF's expert_gating_func
constexpr double kMaxScale = 1e6;

class Deepseek2 : public Architecture {
 public:
  std::string_view name() const override { return "deepseek2"; }
  std::span<const std::string_view> hf_architectures() const override {
    static constexpr std::string_view kNames[] = {"DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM"};
    return kNames;
  }
  std::span<const std::string_view> hf_model_types() const override {
    static constexpr std::string_view kTypes[] = {"deepseek_v2", "deepseek_v3"};
    return kTypes;
  }
  std::string_view summary() const override { return "DeepSeek V2 and V3, latent attention and mixture of experts"; }

  Hparams hparams_from_config(const Json& json, const std::string& where) const override {
    const ConfigReader config(json, where);
    refuse_what_gguf_lacks(config);
    Hparams h;
    h.architecture = name();
    h.n_layers = config.uint({"num_hidden_layers"}, 1, kMaxLayers);
    h.n_embd = config.uint({"hidden_size"}, 1, kMaxWidth);
    h.n_ff = config.uint({"intermediate_size"}, 1, kMaxFfn);
    h.n_heads = config.uint({"num_attention_heads"}, 1, kMaxHeads);
    h.n_kv_heads = 1;
    h.n_vocab = config.uint({"vocab_size"}, 1, kMaxVocab);
    h.n_ctx = config.uint({"max_position_embeddings"}, 1, kMaxContext);
    h.norm_eps = config.find_number("rms_norm_eps", 1e-30, 1).value_or(1e-6);
    h.tied_embeddings = config.find_bool("tie_word_embeddings").value_or(false);
    h.kv_latent = config.uint({"kv_lora_rank"}, 1, kMaxWidth);
    h.q_latent = static_cast<uint32_t>(config.find_uint({"q_lora_rank"}, 1, kMaxWidth).value_or(0));
    h.rope_dims = config.uint({"qk_rope_head_dim"}, 2, kMaxHeadDim);
    h.head_dim = config.uint({"qk_nope_head_dim"}, 1, kMaxHeadDim) + h.rope_dims;
    h.value_dim = config.uint({"v_head_dim"}, 1, kMaxHeadDim);
    experts_from_config(config, h);
    check(h, where);
    rope_from_config(config, h);
    if (h.rope_scaling.kind == "yarn") {
      RopeScaling& s = h.rope_scaling;
      // GGUF has one number for both: cosines and sines stay as they are, scores grow.
      if (s.log_multiplier == 0 || s.attention_factor != 1)
        fail(ExitCode::kUnsupported,
             "{}: YaRN with mscale and mscale_all_dim that are not the same has no counterpart in GGUF's \"{}\"", where, name());
    }
    finish_rope(h);
    return h;
  }

  Hparams hparams_from_gguf(const GgufMetadata& metadata, const std::string& where) const override {
    const GgufReader reader(metadata, std::string(name()), where);
    Hparams h;
    h.architecture = name();
    h.n_layers = reader.uint("block_count", 1, kMaxLayers);
    // Blocks that predict further tokens come last.
    const uint64_t n_next = reader.find_uint("nextn_predict_layers", 0, h.n_layers - 1).value_or(0);
    h.n_layers -= static_cast<uint32_t>(n_next);
    h.n_embd = reader.uint("embedding_length", 1, kMaxWidth);
    h.n_ff = reader.uint("feed_forward_length", 1, kMaxFfn);
    h.n_heads = reader.uint("attention.head_count", 1, kMaxHeads);
    h.n_kv_heads = 1;
    h.n_ctx = reader.uint("context_length", 1, kMaxContext);
    h.n_vocab = vocabulary_size_from_gguf(metadata, reader);
    h.norm_eps = reader.find_number("attention.layer_norm_rms_epsilon", 0, 1).value_or(1e-6);
    h.kv_latent = reader.uint("attention.kv_lora_rank", 1, kMaxWidth);
    h.q_latent = static_cast<uint32_t>(reader.find_uint("attention.q_lora_rank", 0, kMaxWidth).value_or(0));
    h.rope_dims = reader.uint("rope.dimension_count", 2, kMaxHeadDim);
    // Older files give the sizes of the heads themselves where those of the latent stand now.
    const auto size = [&](const char* now, const char* before) {
      const auto found = reader.find_uint(now, 1, kMaxHeadDim);
      return found ? static_cast<uint32_t>(*found) : reader.uint(before, 1, kMaxHeadDim);
    };
    h.head_dim = size("attention.key_length_mla", "attention.key_length");
    h.value_dim = size("attention.value_length_mla", "attention.value_length");
    experts_from_gguf(reader, h);
    check(h, where);
    rope_from_gguf(reader, h);
    if (h.rope_scaling.kind == "yarn") {
      RopeScaling& s = h.rope_scaling;
      s.log_multiplier = 10 * reader.find_number("rope.scaling.yarn_log_multiplier", 0, kMaxScale).value_or(0);
      const double factor = reader.find_number("rope.scaling.attn_factor", 1e-6, kMaxScale).value_or(1);
      s.attention_factor = factor * (s.log_multiplier != 0 ? 1 : yarn_magnitude(s.factor, 1));
    }
    finish_rope(h);
    return h;
  }

  void hparams_to_gguf(const Hparams& h, GgufMetadata& metadata) const override {
    const std::string prefix = std::string(name()) + ".";
    const auto set_u32 = [&](const char* key, uint32_t value) { metadata.set(prefix + key, GgufValue::u32(value)); };
    const auto set_f32 = [&](const char* key, double value) {
      metadata.set(prefix + key, GgufValue::f32(static_cast<float>(value)));
    };
    set_u32("block_count", h.n_layers);
    set_u32("context_length", h.n_ctx);
    set_u32("embedding_length", h.n_embd);
    set_u32("feed_forward_length", h.n_ff);
    set_u32("attention.head_count", h.n_heads);
    set_u32("attention.head_count_kv", 1);
    set_f32("attention.layer_norm_rms_epsilon", h.norm_eps);
    set_u32("vocab_size", h.n_vocab);
    set_u32("attention.q_lora_rank", h.q_latent);  // readers of other models than the published sizes want it, 0 as well
    set_u32("attention.kv_lora_rank", h.kv_latent);
    set_u32("attention.key_length", h.kv_latent + h.rope_dims);
    set_u32("attention.value_length", h.kv_latent);
    set_u32("attention.key_length_mla", h.head_dim);
    set_u32("attention.value_length_mla", h.value_dim);
    set_u32("leading_dense_block_count", h.n_experts > 0 ? h.n_dense_layers : h.n_layers);
    set_u32("expert_feed_forward_length", h.n_experts > 0 ? h.n_ff_expert : h.n_ff);
    set_u32("expert_shared_count", h.n_shared_experts);
    if (h.n_experts > 0) {
      const bool is_sigmoid =
          h.route.weights == RouteWeights::kSigmoid || h.route.weights == RouteWeights::kSigmoidChosen;
      set_u32("expert_count", h.n_experts);
      set_u32("expert_used_count", h.n_experts_used);
      set_f32("expert_weights_scale", h.expert_scale);
      metadata.set(prefix + "expert_weights_norm", GgufValue::boolean(h.route.weights == RouteWeights::kSigmoidChosen ||
                                                                      h.route.weights == RouteWeights::kSoftmaxChosen));
      set_u32("expert_gating_func", is_sigmoid ? kSigmoidGate : kSoftmaxGate);
      if (h.route.n_groups > 1) {
        set_u32("expert_group_count", h.route.n_groups);
        set_u32("expert_group_used_count", h.route.n_groups_used);
        if (h.route.group_top != RouteSpec().group_top) set_u32("expert_group_top", h.route.group_top);  // this program's own
      }
    }
    Hparams plain = h;  // other readers of this architecture set the attention factor themselves
    if (h.rope_scaling.log_multiplier != 0) plain.rope_scaling.attention_factor = 0;
    rope_to_gguf(plain, metadata);
    if (h.rope_scaling.log_multiplier != 0) set_f32("rope.scaling.yarn_log_multiplier", 0.1 * h.rope_scaling.log_multiplier);
  }

  std::vector<TensorSpec> tensors(const Hparams& h) const override {
    TensorList list;
    list.weight("token_embd", "model.embed_tokens", {h.n_vocab, h.n_embd}, Role::kTokenEmbedding);
    for (uint32_t layer = 0; layer < h.n_layers; ++layer) {
      list.enter_block(layer, "model.layers.");
      list.norm("attn_norm", "input_layernorm", h.n_embd);
      list_attention(h, list);
      list.norm("ffn_norm", "post_attention_layernorm", h.n_embd);
      if (has_experts(h, layer))
        list_experts(h, list);
      else
        list_feed_forward(list, "", "mlp.", h.n_ff, h.n_embd);
    }
    list.leave_blocks();
    list.norm("output_norm", "model.norm", h.n_embd);
    if (!h.tied_embeddings) list.weight("output", "lm_head", {h.n_vocab, h.n_embd}, Role::kOutput);
    return list.finish();
  }

  Graph graph(const Hparams& h) const override {
    GraphBuilder g;
    ValueId x = g.embed("token_embd.weight", h.n_embd);
    const auto eps = static_cast<float>(h.norm_eps);
    for (uint32_t layer = 0; layer < h.n_layers; ++layer) {
      g.set_layer(static_cast<int>(layer));
      const std::string block = fmt::format("blk.{}.", layer);
      x = g.add(x, attention(g, h, block, g.rms_norm(x, block + "attn_norm.weight", eps)));
      const ValueId input = g.rms_norm(x, block + "ffn_norm.weight", eps);
      x = g.add(x, has_experts(h, layer) ? experts(g, h, block, input) : feed_forward(g, block, "", input, h.n_ff, h.n_embd));
    }
    g.set_layer(-1);
    x = g.rms_norm(x, "output_norm.weight", eps);
    return g.finish(g.linear(x, h.tied_embeddings ? "token_embd.weight" : "output.weight", h.n_vocab));
  }

 private:
  static bool has_experts(const Hparams& h, uint32_t layer) { return h.n_experts > 0 && layer >= h.n_dense_layers; }

  void refuse_what_gguf_lacks(const ConfigReader& config) const {
    for (const char* key : {"attention_bias", "mlp_bias"})
      if (config.find_bool(key).value_or(false))
        fail(ExitCode::kUnsupported, "{}: {} has no counterpart in GGUF's \"{}\"", config.where(), key, name());
    if (!config.find_bool("rope_interleave").value_or(true))
      fail(ExitCode::kUnsupported, "{}: \"rope_interleave\": false has no counterpart in GGUF's \"{}\"", config.where(), name());
    const std::string activation = config.find_string("hidden_act").value_or("silu");
    if (activation != "silu")
      fail(ExitCode::kUnsupported, "{}: hidden_act \"{}\" is not supported (silu is)", config.where(), activation);
    if (config.find_uint({"moe_layer_freq"}, 1, kMaxLayers).value_or(1) != 1)
      fail(ExitCode::kUnsupported, "{}: moe_layer_freq other than 1 is not supported", config.where());
  }

  // By the architecture: models of other names have it, too.
  static bool is_version_3(const ConfigReader& config) {
    const auto names = config.find_strings("architectures");
    if (!names || names->empty()) return config.find_string("model_type").value_or("") == "deepseek_v3";
    return std::find(names->begin(), names->end(), "DeepseekV3ForCausalLM") != names->end();
  }

  void experts_from_config(const ConfigReader& config, Hparams& h) const {
    h.n_experts = static_cast<uint32_t>(config.find_uint({"n_routed_experts"}, 0, kMaxExperts).value_or(0));
    if (h.n_experts == 0) return;
    const bool is_v3 = is_version_3(config);
    h.n_experts_used = config.uint({"num_experts_per_tok"}, 1, kMaxExperts);
    h.n_ff_expert = config.uint({"moe_intermediate_size"}, 1, kMaxFfn);
    h.n_shared_experts = static_cast<uint32_t>(config.find_uint({"n_shared_experts"}, 0, kMaxExperts).value_or(0));
    h.n_dense_layers = static_cast<uint32_t>(config.find_uint({"first_k_dense_replace"}, 0, kMaxLayers).value_or(0));
    h.expert_scale = config.find_number("routed_scaling_factor", 0, kMaxScale).value_or(1);
    const std::string scores = config.find_string("scoring_func").value_or(is_v3 ? "sigmoid" : "softmax");
    const bool is_sigmoid = scores == "sigmoid";
    if (!is_sigmoid && scores != "softmax")
      fail(ExitCode::kUnsupported, "{}: scoring_func \"{}\" is not supported (softmax, sigmoid are)", config.where(), scores);
    const bool normalized = config.find_bool("norm_topk_prob").value_or(is_v3);
    if (normalized && !is_v3)  // published code of V2 divides and leaves the scale out, transformers does neither
      fail(ExitCode::kUnsupported, "{}: \"norm_topk_prob\": true is not supported for DeepSeek V2", config.where());
    h.route.weights = is_sigmoid ? (normalized ? RouteWeights::kSigmoidChosen : RouteWeights::kSigmoid)
                                 : (normalized ? RouteWeights::kSoftmaxChosen : RouteWeights::kSoftmaxAll);
    const std::string method = config.find_string("topk_method").value_or(is_v3 ? "noaux_tc" : "greedy");
    const bool by_best = method == "group_limited_greedy";
    if (!by_best && method != "greedy" && method != "noaux_tc")
      fail(ExitCode::kUnsupported, "{}: topk_method \"{}\" is not supported (greedy, group_limited_greedy, noaux_tc are)",
           config.where(), method);
    h.route.bias = method == "noaux_tc" ? "exp_probs_b" : "";
    if (method == "greedy") return;
    h.route.n_groups = static_cast<uint32_t>(config.find_uint({"n_group"}, 1, kMaxExperts).value_or(1));
    h.route.n_groups_used = static_cast<uint32_t>(config.find_uint({"topk_group"}, 1, kMaxExperts).value_or(h.route.n_groups));
    if (by_best) h.route.group_top = 1;
  }

  void experts_from_gguf(const GgufReader& reader, Hparams& h) const {
    h.n_experts = static_cast<uint32_t>(reader.find_uint("expert_count", 0, kMaxExperts).value_or(0));
    if (h.n_experts == 0) return;
    h.n_experts_used = reader.uint("expert_used_count", 1, kMaxExperts);
    h.n_ff_expert = reader.uint("expert_feed_forward_length", 1, kMaxFfn);
    h.n_shared_experts = static_cast<uint32_t>(reader.find_uint("expert_shared_count", 0, kMaxExperts).value_or(0));
    h.n_dense_layers = static_cast<uint32_t>(reader.find_uint("leading_dense_block_count", 0, kMaxLayers).value_or(0));
    h.expert_scale = reader.find_number("expert_weights_scale", 0, kMaxScale).value_or(1);
    if (h.expert_scale == 0) h.expert_scale = 1;  // files mean by it that there is none
    const auto gate = reader.find_uint("expert_gating_func", 0, 255).value_or(kSoftmaxGate);
    if (gate > kSigmoidGate)
      fail(ExitCode::kUnsupported, "{}: metadata {}: {} is not supported (1 softmax, 2 sigmoid are)", reader.where(),
           reader.key("expert_gating_func"), gate);
    const bool normalized = reader.find_bool("expert_weights_norm").value_or(false);
    h.route.weights = gate == kSigmoidGate ? (normalized ? RouteWeights::kSigmoidChosen : RouteWeights::kSigmoid)
                                           : (normalized ? RouteWeights::kSoftmaxChosen : RouteWeights::kSoftmaxAll);
    h.route.n_groups = static_cast<uint32_t>(reader.find_uint("expert_group_count", 0, kMaxExperts).value_or(1));
    if (h.route.n_groups == 0) h.route.n_groups = 1;
    h.route.n_groups_used =
        static_cast<uint32_t>(reader.find_uint("expert_group_used_count", 0, kMaxExperts).value_or(h.route.n_groups));
    if (h.route.n_groups_used == 0) h.route.n_groups_used = h.route.n_groups;
    h.route.group_top = static_cast<uint32_t>(reader.find_uint("expert_group_top", 1, kMaxExperts).value_or(h.route.group_top));
  }

  static void check(const Hparams& h, const std::string& where) {
    check_hparams(h, where);
    const auto widest = std::max({uint64_t{h.kv_latent} + h.rope_dims, uint64_t{h.value_dim}, uint64_t{h.head_dim}});
    if (h.rope_dims >= h.head_dim)
      fail(ExitCode::kBadInput, "{}: {} of {} dimensions of a head are rotated: expected some that are not", where, h.rope_dims,
           h.head_dim);
    if (widest * h.n_heads > uint64_t{1} << 26)
      fail(ExitCode::kBadInput, "{}: {} heads on a latent vector of {}: wider than {} in all", where, h.n_heads, h.kv_latent,
           uint64_t{1} << 26);
    if (uint64_t{h.n_shared_experts} * h.n_ff_expert > kMaxFfn)
      fail(ExitCode::kBadInput, "{}: {} shared experts of {}: wider than {} in all", where, h.n_shared_experts, h.n_ff_expert,
           kMaxFfn);
    if (h.n_experts == 0) return;
    const RouteSpec& r = h.route;
    if (h.n_experts % r.n_groups != 0 || r.n_groups_used > r.n_groups ||
        uint64_t{h.n_experts / r.n_groups} * r.n_groups_used < h.n_experts_used)
      fail(ExitCode::kBadInput, "{}: {} of {} experts for each token from {} of {} groups: expected groups of one size that hold them",
           where, h.n_experts_used, h.n_experts, r.n_groups_used, r.n_groups);
  }

  // Scores are scaled by the size of whole heads, and by the square of YaRN's magnitude.
  static void finish_rope(Hparams& h) {
    double magnitude = 1;
    const RopeScaling& s = h.rope_scaling;
    if (s.kind == "yarn") magnitude = s.attention_factor * yarn_magnitude(s.factor, s.log_multiplier);
    h.attention_scale = magnitude * magnitude / std::sqrt(static_cast<double>(h.head_dim));
  }

  static void list_attention(const Hparams& h, TensorList& list) {
    const uint64_t q = uint64_t{h.n_heads} * h.head_dim;
    const uint32_t plain = h.head_dim - h.rope_dims, both = plain + h.value_dim;
    if (h.q_latent == 0) {
      list.weight("attn_q", "self_attn.q_proj", {q, h.n_embd}, Role::kAttnQ);
    } else {
      list.weight("attn_q_a", "self_attn.q_a_proj", {h.q_latent, h.n_embd}, Role::kOther);
      list.norm("attn_q_a_norm", "self_attn.q_a_layernorm", h.q_latent);
      list.weight("attn_q_b", "self_attn.q_b_proj", {q, h.q_latent}, Role::kOther);
    }
    list.weight("attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa", {uint64_t{h.kv_latent} + h.rope_dims, h.n_embd}, Role::kOther);
    list.norm("attn_kv_a_norm", "self_attn.kv_a_layernorm", h.kv_latent);
    const auto by_head = [&](const char* ours, uint64_t rows, uint64_t cols, uint32_t first) {
      list.weight(ours, "self_attn.kv_b_proj", {h.n_heads, rows, cols}, Role::kOther);
      TensorSpec& spec = list.last();
      spec.head_rows = both;
      spec.head_first = first;
      spec.older_name = fmt::format("blk.{}.attn_kv_b.weight", spec.layer);
    };
    by_head("attn_k_b", h.kv_latent, plain, 0);
    list.last().transform = HfTransform::kTransposeHead;
    by_head("attn_v_b", h.value_dim, h.kv_latent, plain);
    list.weight("attn_output", "self_attn.o_proj", {h.n_embd, uint64_t{h.n_heads} * h.value_dim}, Role::kAttnOutput);
  }

  static void list_feed_forward(TensorList& list, const std::string& ending, const std::string& theirs, uint64_t n_ff,
                                uint64_t n_embd) {
    list.weight("ffn_gate" + ending, theirs + "gate_proj", {n_ff, n_embd}, Role::kFfnGate);
    list.weight("ffn_up" + ending, theirs + "up_proj", {n_ff, n_embd}, Role::kFfnUp);
    list.weight("ffn_down" + ending, theirs + "down_proj", {n_embd, n_ff}, Role::kFfnDown);
  }

  static void list_experts(const Hparams& h, TensorList& list) {
    list.weight("ffn_gate_inp", "mlp.gate", {h.n_experts, h.n_embd}, Role::kOther);
    list.last().quantizable = false;
    if (!h.route.bias.empty()) {
      list.bias(h.route.bias, "mlp.gate.e_score_correction", h.n_experts);
      TensorSpec& spec = list.last();
      spec.hf_name = spec.hf_name.substr(0, spec.hf_name.rfind('.')) + "_bias";
    }
    list.experts("ffn_gate_exps", "mlp.experts.{}.gate_proj", {h.n_experts, h.n_ff_expert, h.n_embd}, Role::kFfnGate);
    list.experts("ffn_up_exps", "mlp.experts.{}.up_proj", {h.n_experts, h.n_ff_expert, h.n_embd}, Role::kFfnUp);
    list.experts("ffn_down_exps", "mlp.experts.{}.down_proj", {h.n_experts, h.n_embd, h.n_ff_expert}, Role::kFfnDown);
    if (h.n_shared_experts > 0)
      list_feed_forward(list, "_shexp", "mlp.shared_experts.", uint64_t{h.n_shared_experts} * h.n_ff_expert, h.n_embd);
  }

  static ValueId attention(GraphBuilder& g, const Hparams& h, const std::string& block, ValueId input) {
    const auto eps = static_cast<float>(h.norm_eps);
    const uint32_t plain = h.head_dim - h.rope_dims;
    const auto weight = [&](const char* name) { return block + name + ".weight"; };
    ValueId q = input;
    if (h.q_latent > 0) q = g.rms_norm(g.linear(input, weight("attn_q_a"), h.q_latent), weight("attn_q_a_norm"), eps);
    q = g.linear(q, weight(h.q_latent > 0 ? "attn_q_b" : "attn_q"), h.n_heads * h.head_dim);
    const ValueId both = g.linear(input, weight("attn_kv_a_mqa"), h.kv_latent + h.rope_dims);
    const ValueId latent = g.rms_norm(g.slice(both, 0, h.kv_latent), weight("attn_kv_a_norm"), eps);
    const RopeSpec rope = make_rope(h, RopeSpec::Style::kInterleaved);
    const ValueId k_turned = g.rope(g.slice(both, h.kv_latent, h.rope_dims), rope, 1, h.rope_dims);
    const ValueId q_turned = g.rope(g.slice_heads(q, h.head_dim, plain, h.rope_dims), rope, h.n_heads, h.rope_dims);
    const ValueId heads = g.heads(h.n_heads);
    const ValueId q_latent = g.expert_linear(g.slice_heads(q, h.head_dim, 0, plain), heads, weight("attn_k_b"), h.kv_latent);
    const ValueId attended = g.attention(g.concat_heads(q_latent, q_turned, h.n_heads), g.concat_heads(latent, k_turned, 1),
                                         latent,
                                         {.n_heads = h.n_heads,
                                          .n_kv_heads = 1,
                                          .head_dim = h.kv_latent + h.rope_dims,
                                          .value_dim = h.kv_latent,
                                          .scale = static_cast<float>(h.attention_scale)});
    return g.linear(g.expert_linear(attended, heads, weight("attn_v_b"), h.value_dim), weight("attn_output"), h.n_embd);
  }

  static ValueId feed_forward(GraphBuilder& g, const std::string& block, const std::string& ending, ValueId input, uint32_t n_ff,
                              uint32_t n_embd) {
    const ValueId gate = g.linear(input, block + "ffn_gate" + ending + ".weight", n_ff);
    const ValueId up = g.linear(input, block + "ffn_up" + ending + ".weight", n_ff);
    return g.linear(g.silu_mul(gate, up), block + "ffn_down" + ending + ".weight", n_embd);
  }

  static ValueId experts(GraphBuilder& g, const Hparams& h, const std::string& block, ValueId input) {
    RouteSpec spec = h.route;
    spec.n_experts = h.n_experts;
    spec.n_used = h.n_experts_used;
    if (!spec.bias.empty()) spec.bias = block + spec.bias + ".bias";
    const ValueId route = g.route(g.linear(input, block + "ffn_gate_inp.weight", h.n_experts), spec);
    const ValueId gate = g.expert_linear(input, route, block + "ffn_gate_exps.weight", h.n_ff_expert);
    const ValueId up = g.expert_linear(input, route, block + "ffn_up_exps.weight", h.n_ff_expert);
    const ValueId down = g.expert_linear(g.silu_mul(gate, up), route, block + "ffn_down_exps.weight", h.n_embd);
    const ValueId routed = g.expert_sum(down, route, static_cast<float>(h.expert_scale));
    if (h.n_shared_experts == 0) return routed;
    return g.add(routed, feed_forward(g, block, "_shexp", input, h.n_shared_experts * h.n_ff_expert, h.n_embd));
  }
};

}  // namespace

const Architecture& deepseek2_architecture() {
  static const Deepseek2 architecture;
  return architecture;
}

}  // namespace tsubu
