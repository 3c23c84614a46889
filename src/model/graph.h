// A model's computation as data: a list of operations in execution order over values of shape (n_tokens, width). The
// architectures write it with GraphBuilder so that a layer reads like the paper; the engine runs it, calibration hooks
// into its linears, and "which norm feeds which linears" is read off it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tsubu {

using ValueId = int32_t;
inline constexpr ValueId kNoValue = -1;

enum class OpKind {
  kEmbed,        // rows of `weight` for the token ids
  kAddPosition,  // input + rows of `weight` for the positions (learned absolute positions)
  kRmsNorm,      // per slice of `head_dim` when it is set (Qwen3's q/k norm), else over the width
  kLayerNorm,
  kLinear,       // input · weightᵀ + bias
  kSlice,        // columns [offset, offset + width) of the input
  kRope,         // rotary positions on n_heads heads of head_dim
  kAttention,    // inputs q, k, v: causal, grouped-query, through the KV cache of this layer
  kSiluMul,      // silu(inputs[0]) · inputs[1]
  kGelu,         // tanh form
  kAdd,
};

struct RopeSpec {
  enum class Style { kInterleaved, kHalfSplit };  // pairs (2i, 2i+1), or (i, i + n_dims/2)
  Style style = Style::kHalfSplit;
  std::vector<float> inverse_frequencies;  // n_dims / 2 of them; every scaling rule is folded in
  float magnitude = 1.0f;                  // YaRN's attention factor, multiplies cos and sin
};

struct Op {
  OpKind kind = OpKind::kAdd;
  int layer = -1;                   // -1: outside the blocks
  std::vector<ValueId> inputs;
  ValueId output = kNoValue;
  std::string weight, bias;         // GGUF tensor names; empty when there is none
  float eps = 0;                    // norms
  uint32_t n_heads = 0, n_kv_heads = 0, head_dim = 0;  // rope, attention, per-head norms
  float attention_scale = 0;        // usually head_dim^-1/2
  uint32_t sliding_window = 0;      // 0: none; else a token sees itself and the window-1 before it
  uint32_t offset = 0;              // slice
  int rope = -1;                    // index into Graph::ropes
};

struct Graph {
  std::vector<Op> ops;
  std::vector<uint32_t> widths;  // by ValueId
  std::vector<RopeSpec> ropes;
  ValueId logits = kNoValue;     // output of the head's linear
};

// Linears that read one value, and the norm that wrote it: what folding transforms and shared statistics work on.
struct LinearGroup {
  ValueId input = kNoValue;
  std::string norm_weight;               // empty when the producer is no norm
  std::string norm_bias;                 // of a layer norm
  // The linear whose output reaches the input channel by channel (up → down, v → attention output), else empty: a scale
  // of its row producer_rows[c] is a scale of the input's column c. Several columns may share a row (grouped queries).
  std::string producer_linear, producer_bias;
  std::vector<uint32_t> producer_rows;
  uint32_t producer_heads = 0;           // v: heads of producer_rows, each mapped to whole heads of the input; else 0
  // Nothing else reads what the norm or the producer's rows give, and no other operation uses the weights concerned:
  // a scale of the input's channels folds away.
  bool foldable = false;
  std::vector<std::string> linears;      // weights, in graph order
  int layer = -1;
};
std::vector<LinearGroup> linear_groups(const Graph& graph);

// Values computed before op `step` that it or a later op reads: what a computation cut there has to carry over.
std::vector<ValueId> live_values(const Graph& graph, size_t step);

class GraphBuilder {
 public:
  void set_layer(int layer) { layer_ = layer; }
  ValueId embed(const std::string& weight, uint32_t width);
  ValueId add_position(ValueId x, const std::string& weight);
  ValueId rms_norm(ValueId x, const std::string& weight, float eps, uint32_t head_dim = 0);
  ValueId layer_norm(ValueId x, const std::string& weight, const std::string& bias, float eps);
  ValueId linear(ValueId x, const std::string& weight, uint32_t width, const std::string& bias = "");
  ValueId slice(ValueId x, uint32_t offset, uint32_t width);
  ValueId rope(ValueId x, const RopeSpec& spec, uint32_t n_heads, uint32_t head_dim);
  ValueId attention(ValueId q, ValueId k, ValueId v, uint32_t n_heads, uint32_t n_kv_heads, uint32_t head_dim,
                    uint32_t sliding_window = 0);
  ValueId silu_mul(ValueId gate, ValueId up);
  ValueId gelu(ValueId x);
  ValueId add(ValueId a, ValueId b);
  Graph finish(ValueId logits);

 private:
  ValueId push(Op op, uint32_t width);
  Graph graph_;
  int layer_ = -1;
};

}  // namespace tsubu
