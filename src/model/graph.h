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
  kAddPosition,  // input + rows of `weight` for the positions plus `offset` (learned absolute positions)
  kScale,        // input · scale
  kRmsNorm,      // per slice of `head_dim` when it is set (Qwen3's q/k norm), else over the width
  kLayerNorm,
  kLinear,       // input · weightᵀ + bias, then the soft cap when there is one
  kSlice,        // columns [offset, offset + width) of the input; with head_dim, of each of its n_heads heads
  kConcat,       // heads of inputs[0] and of inputs[1], n_heads of each, one behind the other: (a0, b0, a1, b1, …)
  kRope,         // rotary positions on n_heads heads of head_dim
  kAttention,    // inputs q, k, v: causal, grouped-query, through the KV cache of this layer; weight: its sinks; values may
                 // be of another width than keys (value_dim)
  kSiluMul,      // silu(inputs[0]) · inputs[1]
  kGeluMul,      // gelu(inputs[0]) · inputs[1], tanh form
  kSwigluOai,    // gpt-oss: g · sigmoid(1.702 g) · (u + 1), g = min(inputs[0], 7), u = inputs[1] within ±7
  kGelu,         // tanh form
  kGeluErf,      // x Φ(x)
  kRelu,
  kAdd,
  // Mixtures of experts. A value by slots holds n_used slices for each token, those of its experts in ascending order.
  kRoute,         // input: a score for each expert. Output: the slots' experts (as numbers), then their weights; bias: added
                  // to what the choice goes by, not to the weights
  kHeads,         // no input: n_experts heads, of which each is a slot of every token, in the form of kRoute's output: the
                  // kExpertLinear that reads it multiplies each head by a matrix of its own
  kExpertLinear,  // inputs x (by slots, or one slice for all), route: slice · weight[expert]ᵀ + bias[expert], by slots
  kExpertSum,     // inputs x by slots, route: the slices' sum by their weights
};

struct RopeSpec {
  enum class Style { kInterleaved, kHalfSplit };  // pairs (2i, 2i+1), or (i, i + n_dims/2)
  Style style = Style::kHalfSplit;
  std::vector<float> inverse_frequencies;  // n_dims / 2 of them; every scaling rule is folded in
  float magnitude = 1.0f;                  // YaRN's attention factor, multiplies cos and sin
  // LongRoPE: sequences with room for more than long_from positions use these instead.
  std::vector<float> long_inverse_frequencies;
  uint32_t long_from = 0;
};

// How a router's scores choose experts and weigh them.
enum class RouteWeights {
  kSoftmaxChosen,   // a softmax over the chosen
  kSoftmaxAll,      // over all experts
  kSigmoid,         // each its own
  kSigmoidChosen,   // the chosen ones' divided by their sum
};
struct RouteSpec {
  uint32_t n_experts = 0, n_used = 0;
  RouteWeights weights = RouteWeights::kSoftmaxChosen;
  // Groups of neighbors: only the n_groups_used best ones are chosen from, by the sum of the group_top highest scores of
  // each. The scores are those that the weights are made of (softmax over all, sigmoid) plus the bias.
  uint32_t n_groups = 1, n_groups_used = 1, group_top = 2;
  std::string bias = {};  // a vector, added to the scores that experts are chosen by
};

struct Op {
  OpKind kind = OpKind::kAdd;
  int layer = -1;                   // -1: outside the blocks
  std::vector<ValueId> inputs;
  ValueId output = kNoValue;
  std::string weight, bias;         // GGUF tensor names; empty when there is none
  float eps = 0;                    // norms
  uint32_t n_heads = 0, n_kv_heads = 0, head_dim = 0;  // rope, attention, per-head norms, slices, concatenation
  uint32_t value_dim = 0;           // attention: width of a value
  float attention_scale = 0;        // usually head_dim^-1/2
  uint32_t sliding_window = 0;      // 0: none; else a token sees itself and the window-1 before it
  float softcap = 0;                // attention's scores, a linear's output: c · tanh(x / c); 0: none
  float max_alibi_bias = 0;         // attention: a key d tokens back loses d · the head's slope (ALiBi); 0: none
  float scale = 1;                  // kScale, and kExpertSum's weights
  uint32_t offset = 0;              // slice, learned positions
  int rope = -1;                    // index into Graph::ropes
  uint32_t n_experts = 0;           // kRoute, kExpertLinear, kExpertSum
  uint32_t n_used = 0;              // slots
  bool by_slots = false;            // kExpertLinear: inputs[0] is by slots, else one slice for all of them
  uint32_t n_chosen = 0;            // kRoute: experts with the highest scores; slots beyond them (all are run) weigh 0
  RouteSpec route = {};             // kRoute: how experts are chosen and weighed
};

// A linear, of experts or not.
inline bool is_linear(const Op& op) { return op.kind == OpKind::kLinear || op.kind == OpKind::kExpertLinear; }

struct Graph {
  std::vector<Op> ops;
  std::vector<uint32_t> widths;  // by ValueId
  std::vector<RopeSpec> ropes;
  ValueId logits = kNoValue;     // output of the head's linear
};

// Whether a router chooses the tokens of a kExpertLinear; else its matrices are those of heads.
bool is_routed(const Graph& graph, const Op& op);

// Makes every token go through every expert: those that the router did not choose weigh 0, so the results stay what they
// are. For statistics of experts that are seldom chosen. Returns the number of routers.
size_t route_all(Graph& graph);

// Linears that read one value, and the norm that wrote it: what folding transforms and shared statistics work on. Linears
// of experts are not among them: each expert reads the tokens that were routed to it (expert_groups).
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

// Linears of experts that read one value (gate and up, down).
struct ExpertGroup {
  ValueId input = kNoValue;
  uint32_t n_experts = 0, n_cols = 0;
  std::vector<std::string> linears;
  int layer = -1;
  bool is_routed = true;  // false: heads, which see every token
};
std::vector<ExpertGroup> expert_groups(const Graph& graph);

// Values computed before op `step` that it or a later op reads: what a computation cut there has to carry over.
std::vector<ValueId> live_values(const Graph& graph, size_t step);

struct AttentionSpec {
  uint32_t n_heads = 0, n_kv_heads = 0, head_dim = 0;
  uint32_t value_dim = 0;       // 0: head_dim
  float scale = 0;              // 0: head_dim^-1/2
  uint32_t sliding_window = 0;  // 0: none
  float softcap = 0, max_alibi_bias = 0;
  std::string sinks = {};       // a vector, one score for each head that takes part in the softmax and has no value
};

class GraphBuilder {
 public:
  void set_layer(int layer) { layer_ = layer; }
  ValueId embed(const std::string& weight, uint32_t width);
  ValueId add_position(ValueId x, const std::string& weight, uint32_t offset = 0);
  ValueId scale(ValueId x, float factor);
  ValueId rms_norm(ValueId x, const std::string& weight, float eps, uint32_t head_dim = 0);
  ValueId layer_norm(ValueId x, const std::string& weight, const std::string& bias, float eps);
  ValueId linear(ValueId x, const std::string& weight, uint32_t width, const std::string& bias = "");
  ValueId slice(ValueId x, uint32_t offset, uint32_t width);
  // Columns [offset, offset + width) of each head of head_dim.
  ValueId slice_heads(ValueId x, uint32_t head_dim, uint32_t offset, uint32_t width);
  ValueId concat_heads(ValueId a, ValueId b, uint32_t n_heads);
  ValueId rope(ValueId x, const RopeSpec& spec, uint32_t n_heads, uint32_t head_dim);
  ValueId attention(ValueId q, ValueId k, ValueId v, uint32_t n_heads, uint32_t n_kv_heads, uint32_t head_dim,
                    uint32_t sliding_window = 0);
  ValueId attention(ValueId q, ValueId k, ValueId v, const AttentionSpec& spec);
  ValueId silu_mul(ValueId gate, ValueId up) { return gate_op(OpKind::kSiluMul, gate, up); }
  ValueId gelu_mul(ValueId gate, ValueId up) { return gate_op(OpKind::kGeluMul, gate, up); }
  ValueId swiglu_oai(ValueId gate, ValueId up) { return gate_op(OpKind::kSwigluOai, gate, up); }
  ValueId gate_op(OpKind kind, ValueId gate, ValueId up);
  ValueId gelu(ValueId x) { return activation(OpKind::kGelu, x); }
  ValueId activation(OpKind kind, ValueId x);
  ValueId add(ValueId a, ValueId b);
  ValueId route(ValueId scores, const RouteSpec& spec);
  ValueId heads(uint32_t n_heads);  // to be read by expert_linear
  // width: of one expert's output.
  ValueId expert_linear(ValueId x, ValueId route, const std::string& weight, uint32_t width, const std::string& bias = "");
  ValueId expert_sum(ValueId x, ValueId route, float scale = 1);
  // The soft cap of the linear that was added last.
  void softcap(float cap) { graph_.ops.back().softcap = cap; }
  Graph finish(ValueId logits);

 private:
  ValueId push(Op op, uint32_t width);
  uint32_t width(ValueId v) const { return graph_.widths[static_cast<size_t>(v)]; }
  const Op& producer(ValueId v) const { return graph_.ops[static_cast<size_t>(v)]; }  // each op adds one value
  Graph graph_;
  int layer_ = -1;
};

}  // namespace tsubu
