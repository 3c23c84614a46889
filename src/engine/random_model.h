// For tests: small models in memory with random weights, of the shapes that the architectures use, and their logits
// computed in double, operation by operation over the whole sequence, as the definition says.
#pragma once

#include <cmath>
#include <deque>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "model/model.h"

namespace tsubu {

struct RandomModelOptions {
  uint32_t n_layers = 2, n_embd = 32, n_ff = 48, n_heads = 4, n_kv_heads = 2, head_dim = 8, n_vocab = 50, n_ctx = 1024;
  uint32_t sliding_window = 0;
  RopeSpec::Style rope = RopeSpec::Style::kInterleaved;
  uint32_t n_rope_pairs = 4;  // at most head_dim / 2
  bool head_norms = false;    // a norm for each head of q and k
  bool gpt2 = false;          // layer norms, learned positions, one matrix for q, k and v, biases, gelu, tied head
  // Gemma's: post-norms, GELU gates, a scaled embedding, soft caps, windows in every other layer only.
  bool gemma = false;
  uint32_t n_experts = 0, n_used = 2;  // a mixture in place of each feed-forward
  bool oai = false;                    // gpt-oss's: biases of experts, clamped gates, sinks
  // DeepSeek's: keys and values from a latent of so many values, shared by all heads; 0: none. The queries' own, 0: none.
  // The rotated part of a head are its 2 · n_rope_pairs last values.
  uint32_t kv_latent = 0, q_latent = 0, value_dim = 0;
  uint32_t n_dense_layers = 0, n_ff_shared = 0;  // layers before those with experts; width of the expert of all tokens
  RouteSpec route = {.weights = RouteWeights::kSoftmaxAll};
  bool route_bias = false;
  float expert_scale = 1;
  float max_alibi_bias = 0;            // in place of rotary positions
  OpKind activation = OpKind::kGelu;   // with gpt2
  uint32_t first_position = 0;         // with gpt2: rows before position 0
  std::string type = "F32";   // of the matrices
  uint32_t seed = 1;
  float head_scale = 1;  // 0: every token is equally likely
};

inline RandomModelOptions random_options(const std::function<void(RandomModelOptions&)>& change) {
  RandomModelOptions o;
  change(o);
  return o;
}

class RandomModel : public Model {
 public:
  explicit RandomModel(const RandomModelOptions& o) : random_(o.seed) {
    architecture_ = architectures().front();
    path_ = "random";
    layout_ = "gguf";
    hparams_.n_layers = o.n_layers;
    hparams_.n_embd = o.n_embd;
    hparams_.n_vocab = o.n_vocab;
    hparams_.n_ctx = o.n_ctx;
    for (uint32_t i = 0; i < o.n_vocab; ++i) vocabulary_.tokens.push_back("t" + std::to_string(i));
    if (o.gpt2)
      make_gpt2(o);
    else
      make_gated(o);
  }

  // Adds a tensor of random values of about the given size.
  void add(const std::string& name, std::vector<uint64_t> shape, const std::string& type, float scale, float mean = 0) {
    uint64_t n = 1;
    for (uint64_t d : shape) n *= d;
    std::normal_distribution<float> normal(mean, scale);
    std::vector<float> values(n);
    for (float& v : values) v = scale == 0 ? mean : normal(random_);
    add(name, shape, type, values);
  }

  void add(const std::string& name, std::vector<uint64_t> shape, const std::string& type_name,
           const std::vector<float>& values) {
    const TypeInfo& type = type_named(type_name);
    const uint64_t n_cols = shape.back(), row_bytes = n_cols / type.block_len * type.block_bytes;
    bytes_.emplace_back(values.size() / n_cols * row_bytes);
    for (uint64_t r = 0; r < values.size() / n_cols; ++r)
      type.encode(values.data() + r * n_cols, nullptr, bytes_.back().data() + r * row_bytes, n_cols);
    TensorSpec spec;
    spec.name = name;
    spec.shape = std::move(shape);
    if (name == "token_embd.weight") spec.role = Role::kTokenEmbedding;
    spec.quantizable = name.find("ffn_gate_inp") == std::string::npos;
    bind(spec, type, bytes_.back());
  }

  void set_graph(Graph graph) { graph_ = std::move(graph); }
  Vocabulary& vocabulary_to_change() { return vocabulary_; }
  Hparams& hparams_to_change() { return hparams_; }

 private:
  void linear_weight(const std::string& name, uint64_t rows, uint64_t cols, const std::string& type, float scale = 1) {
    add(name + ".weight", {rows, cols}, type, scale / std::sqrt(static_cast<float>(cols)));
  }

  RopeSpec rope_spec(const RandomModelOptions& o) const {
    RopeSpec spec;
    spec.style = o.rope;
    for (uint32_t i = 0; i < o.n_rope_pairs; ++i)
      spec.inverse_frequencies.push_back(static_cast<float>(std::pow(100.0, -static_cast<double>(i) / o.n_rope_pairs)));
    return spec;
  }

  void make_gated(const RandomModelOptions& o) {
    const uint32_t q = o.n_heads * o.head_dim, kv = o.n_kv_heads * o.head_dim;
    const RopeSpec rope = rope_spec(o);
    GraphBuilder g;
    add("token_embd.weight", {o.n_vocab, o.n_embd}, o.type, 1);
    ValueId x = g.embed("token_embd.weight", o.n_embd);
    if (o.gemma) x = g.scale(x, 1.7f);
    for (uint32_t l = 0; l < o.n_layers; ++l) {
      const std::string p = "blk." + std::to_string(l) + ".";
      g.set_layer(static_cast<int>(l));
      add(p + "attn_norm.weight", {o.n_embd}, "F32", 0.2f, 1);
      add(p + "ffn_norm.weight", {o.n_embd}, "F32", 0.2f, 1);
      const bool has_experts = o.n_experts > 0 && l >= o.n_dense_layers;
      if (!has_experts) {
        linear_weight(p + "ffn_gate", o.n_ff, o.n_embd, o.type);
        linear_weight(p + "ffn_up", o.n_ff, o.n_embd, o.type);
        linear_weight(p + "ffn_down", o.n_embd, o.n_ff, o.type);
      }
      const ValueId n = g.rms_norm(x, p + "attn_norm.weight", 1e-5f);
      if (o.kv_latent > 0) {
        x = g.add(x, latent_attention(g, n, p, rope, o));
        x = g.add(x, feed_forward(g, g.rms_norm(x, p + "ffn_norm.weight", 1e-5f), p, has_experts, o));
        continue;
      }
      linear_weight(p + "attn_q", q, o.n_embd, o.type, 2);
      linear_weight(p + "attn_k", kv, o.n_embd, o.type, 2);
      linear_weight(p + "attn_v", kv, o.n_embd, o.type);
      linear_weight(p + "attn_output", o.n_embd, q, o.type);
      ValueId query = g.linear(n, p + "attn_q.weight", q), key = g.linear(n, p + "attn_k.weight", kv);
      if (o.head_norms) {
        add(p + "attn_q_norm.weight", {o.head_dim}, "F32", 0.2f, 1);
        add(p + "attn_k_norm.weight", {o.head_dim}, "F32", 0.2f, 1);
        query = g.rms_norm(query, p + "attn_q_norm.weight", 1e-5f, o.head_dim);
        key = g.rms_norm(key, p + "attn_k_norm.weight", 1e-5f, o.head_dim);
      }
      const ValueId value = g.linear(n, p + "attn_v.weight", kv);
      if (o.max_alibi_bias == 0) {
        query = g.rope(query, rope, o.n_heads, o.head_dim);
        key = g.rope(key, rope, o.n_kv_heads, o.head_dim);
      }
      AttentionSpec spec{.n_heads = o.n_heads, .n_kv_heads = o.n_kv_heads, .head_dim = o.head_dim,
                         .sliding_window = o.gemma && l % 2 == 1 ? 0 : o.sliding_window,
                         .softcap = o.gemma ? 2.5f : 0.0f, .max_alibi_bias = o.max_alibi_bias};
      if (o.oai) {
        spec.sinks = p + "attn_sinks.weight";
        add(spec.sinks, {o.n_heads}, "F32", 2);
      }
      const auto behind = [&](ValueId v, const std::string& name) {
        if (!o.gemma) return v;
        add(p + name, {o.n_embd}, "F32", 0.2f, 1);
        return g.rms_norm(v, p + name, 1e-5f);
      };
      const ValueId a = g.attention(query, key, value, spec);
      x = g.add(x, behind(g.linear(a, p + "attn_output.weight", o.n_embd), "post_attention_norm.weight"));
      const ValueId m = g.rms_norm(x, p + "ffn_norm.weight", 1e-5f);
      x = g.add(x, has_experts ? feed_forward(g, m, p, true, o) : behind(feed_forward(g, m, p, false, o), "post_ffw_norm.weight"));
    }
    g.set_layer(-1);
    add("output_norm.weight", {o.n_embd}, "F32", 0.2f, 1);
    linear_weight("output", o.n_vocab, o.n_embd, o.type, 2 * o.head_scale);
    const ValueId logits = g.linear(g.rms_norm(x, "output_norm.weight", 1e-5f), "output.weight", o.n_vocab);
    if (o.gemma) g.softcap(3);
    graph_ = g.finish(logits);
  }

  ValueId feed_forward(GraphBuilder& g, ValueId m, const std::string& p, bool has_experts, const RandomModelOptions& o) {
    if (has_experts) {
      const ValueId routed = make_experts(g, m, p, o);
      if (o.n_ff_shared == 0) return routed;
      linear_weight(p + "ffn_gate_shexp", o.n_ff_shared, o.n_embd, o.type);
      linear_weight(p + "ffn_up_shexp", o.n_ff_shared, o.n_embd, o.type);
      linear_weight(p + "ffn_down_shexp", o.n_embd, o.n_ff_shared, o.type);
      const ValueId gate = g.linear(m, p + "ffn_gate_shexp.weight", o.n_ff_shared);
      const ValueId up = g.linear(m, p + "ffn_up_shexp.weight", o.n_ff_shared);
      return g.add(routed, g.linear(g.silu_mul(gate, up), p + "ffn_down_shexp.weight", o.n_embd));
    }
    const ValueId gate = g.linear(m, p + "ffn_gate.weight", o.n_ff), up = g.linear(m, p + "ffn_up.weight", o.n_ff);
    const ValueId gated = o.gemma ? g.gelu_mul(gate, up) : g.silu_mul(gate, up);
    return g.linear(gated, p + "ffn_down.weight", o.n_embd);
  }

  ValueId latent_attention(GraphBuilder& g, ValueId n, const std::string& p, const RopeSpec& rope, const RandomModelOptions& o) {
    const uint32_t turned = 2 * o.n_rope_pairs, plain = o.head_dim - turned, q = o.n_heads * o.head_dim;
    const auto linear = [&](ValueId x, const std::string& name, uint32_t rows, uint32_t cols, float scale) {
      linear_weight(p + name, rows, cols, o.type, scale);
      return g.linear(x, p + name + ".weight", rows);
    };
    const auto norm = [&](ValueId x, const std::string& name, uint32_t width) {
      add(p + name + ".weight", {width}, "F32", 0.2f, 1);
      return g.rms_norm(x, p + name + ".weight", 1e-5f);
    };
    const auto by_head = [&](ValueId x, ValueId heads, const std::string& name, uint32_t rows, uint32_t cols) {
      add(p + name + ".weight", {o.n_heads, rows, cols}, o.type, 1 / std::sqrt(static_cast<float>(cols)));
      return g.expert_linear(x, heads, p + name + ".weight", rows);
    };
    const ValueId query = o.q_latent == 0
                              ? linear(n, "attn_q", q, o.n_embd, 2)
                              : linear(norm(linear(n, "attn_q_a", o.q_latent, o.n_embd, 1), "attn_q_a_norm", o.q_latent),
                                       "attn_q_b", q, o.q_latent, 2);
    const ValueId both = linear(n, "attn_kv_a_mqa", o.kv_latent + turned, o.n_embd, 2);
    const ValueId latent = norm(g.slice(both, 0, o.kv_latent), "attn_kv_a_norm", o.kv_latent);
    const ValueId k_turned = g.rope(g.slice(both, o.kv_latent, turned), rope, 1, turned);
    const ValueId q_turned = g.rope(g.slice_heads(query, o.head_dim, plain, turned), rope, o.n_heads, turned);
    const ValueId heads = g.heads(o.n_heads);
    const ValueId q_latent = by_head(g.slice_heads(query, o.head_dim, 0, plain), heads, "attn_k_b", o.kv_latent, plain);
    const ValueId a = g.attention(g.concat_heads(q_latent, q_turned, o.n_heads), g.concat_heads(latent, k_turned, 1), latent,
                                  {.n_heads = o.n_heads, .n_kv_heads = 1, .head_dim = o.kv_latent + turned,
                                   .value_dim = o.kv_latent, .scale = 0.4f});
    return linear(by_head(a, heads, "attn_v_b", o.value_dim, o.kv_latent), "attn_output", o.n_embd, o.n_heads * o.value_dim, 1);
  }

  ValueId make_experts(GraphBuilder& g, ValueId m, const std::string& p, const RandomModelOptions& o) {
    const auto bias = [&](const std::string& name, std::vector<uint64_t> shape) {
      if (!o.oai) return std::string();
      add(p + name + ".bias", std::move(shape), "F32", 0.3f);
      return p + name + ".bias";
    };
    linear_weight(p + "ffn_gate_inp", o.n_experts, o.n_embd, "F32", 2);
    const ValueId scores = g.linear(m, p + "ffn_gate_inp.weight", o.n_experts, bias("ffn_gate_inp", {o.n_experts}));
    RouteSpec spec = o.route;
    spec.n_experts = o.n_experts;
    spec.n_used = o.n_used;
    if (o.oai) spec.weights = RouteWeights::kSoftmaxChosen;
    if (o.route_bias) {
      spec.bias = p + "exp_probs_b.bias";
      add(spec.bias, {o.n_experts}, "F32", 0.2f);
    }
    const ValueId route = g.route(scores, spec);
    const auto linear = [&](ValueId x, const std::string& name, uint32_t rows, uint32_t cols) {
      add(p + name + ".weight", {o.n_experts, rows, cols}, o.type, 1 / std::sqrt(static_cast<float>(cols)));
      return g.expert_linear(x, route, p + name + ".weight", rows, bias(name, {o.n_experts, rows}));
    };
    const ValueId gate = linear(m, "ffn_gate_exps", o.n_ff, o.n_embd), up = linear(m, "ffn_up_exps", o.n_ff, o.n_embd);
    const ValueId gated = o.oai ? g.swiglu_oai(gate, up) : g.silu_mul(gate, up);
    return g.expert_sum(linear(gated, "ffn_down_exps", o.n_embd, o.n_ff), route, o.expert_scale);
  }

  void make_gpt2(const RandomModelOptions& o) {
    const uint32_t q = o.n_heads * o.head_dim;
    GraphBuilder g;
    add("token_embd.weight", {o.n_vocab, o.n_embd}, o.type, 0.3f);
    add("position_embd.weight", {o.n_ctx + o.first_position, o.n_embd}, "F32", 0.3f);
    ValueId x = g.add_position(g.embed("token_embd.weight", o.n_embd), "position_embd.weight", o.first_position);
    const auto norm = [&](ValueId v, const std::string& name) {
      add(name + ".weight", {o.n_embd}, "F32", 0.2f, 1);
      add(name + ".bias", {o.n_embd}, "F32", 0.2f);
      return g.layer_norm(v, name + ".weight", name + ".bias", 1e-5f);
    };
    const auto linear = [&](ValueId v, const std::string& name, uint32_t rows, uint32_t cols) {
      linear_weight(name, rows, cols, o.type);
      add(name + ".bias", {rows}, "F32", 0.2f);
      return g.linear(v, name + ".weight", rows, name + ".bias");
    };
    for (uint32_t l = 0; l < o.n_layers; ++l) {
      const std::string p = "blk." + std::to_string(l) + ".";
      g.set_layer(static_cast<int>(l));
      const ValueId qkv = linear(norm(x, p + "attn_norm"), p + "attn_qkv", 3 * q, o.n_embd);
      const ValueId a =
          g.attention(g.slice(qkv, 0, q), g.slice(qkv, q, q), g.slice(qkv, 2 * q, q), o.n_heads, o.n_heads, o.head_dim);
      x = g.add(x, linear(a, p + "attn_output", o.n_embd, q));
      const ValueId up = linear(norm(x, p + "ffn_norm"), p + "ffn_up", o.n_ff, o.n_embd);
      x = g.add(x, linear(g.activation(o.activation, up), p + "ffn_down", o.n_embd, o.n_ff));
    }
    g.set_layer(-1);
    graph_ = g.finish(g.linear(norm(x, "output_norm"), "token_embd.weight", o.n_vocab));
  }

  std::deque<std::vector<std::byte>> bytes_;
  std::mt19937 random_;
};

// What a linear makes of its input and of the rows of its weight before it multiplies them; nothing when empty.
struct LinearMeaning {
  std::function<void(const Op& op, std::vector<double>& x)> input;
  std::function<void(const Op& op, std::vector<double>& row)> weight_row;
};

// Logits of every token, (n_tokens, n_vocab), in double.
std::vector<double> reference_logits(const Model& model, const std::vector<TokenId>& tokens,
                                     const LinearMeaning& meaning = {});

inline std::vector<TokenId> random_tokens(size_t n, uint32_t n_vocab, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<TokenId> tokens(n);
  for (TokenId& t : tokens) t = static_cast<TokenId>(random() % n_vocab);
  return tokens;
}

}  // namespace tsubu
