// What an architecture declares: hyper-parameters, tensors in both worlds (GGUF and Hugging Face), metadata, the graph.
// One file each (llama.cc, qwen2.cc, …) and one list (architectures.cc); nothing outside model/ names an architecture.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "container/gguf.h"
#include "model/graph.h"

namespace tsubu {

enum class Role {
  kTokenEmbedding, kPositionEmbedding, kOutput, kNorm, kBias,
  kAttnQ, kAttnK, kAttnV, kAttnQkv, kAttnOutput, kFfnGate, kFfnUp, kFfnDown, kOther,  // also of experts
};
std::string_view role_name(Role role);  // "attn_q", "ffn_down", "token_embd", "output" …

struct RopeScaling {
  std::string kind;  // "", "linear", "llama3", "yarn", "longrope"
  double factor = 1, low_freq_factor = 1, high_freq_factor = 4;
  uint32_t original_context = 0;
  double attention_factor = 0, beta_fast = 32, beta_slow = 1;  // attention_factor 0: YaRN's 0.1 ln(factor) + 1
  double extrapolation = 1;                                     // YaRN: share of the ramp that is applied
  bool truncate = true;                                         // YaRN: the ramp's ends are whole dimensions
  double log_multiplier = 0;                                    // YaRN of latent attention: scores grow with its square
  std::vector<float> frequency_factors;  // rope_freqs.weight: each frequency is divided by its factor; empty: none
  // LongRoPE: the same for sequences of up to original_context tokens and for longer ones.
  std::vector<float> short_factors, long_factors;
};

struct Hparams {
  std::string architecture;  // GGUF's general.architecture
  uint32_t n_layers = 0, n_embd = 0, n_ff = 0, n_heads = 0, n_kv_heads = 0, head_dim = 0, n_vocab = 0, n_ctx = 0;
  uint32_t rope_dims = 0, sliding_window = 0;
  double norm_eps = 1e-5, rope_base = 10000;
  RopeScaling rope_scaling;
  bool tied_embeddings = false, qkv_bias = false, attn_output_bias = false, mlp_bias = false;
  // Layers that the sliding window holds for; empty: all of them. local_rope_base: theirs, unscaled; 0: as the others.
  std::vector<bool> windowed;
  double local_rope_base = 0;
  double attention_scale = 0;                         // 0: head_dim^-1/2
  double attention_softcap = 0, logit_softcap = 0;    // 0: none
  uint32_t n_experts = 0, n_experts_used = 0;         // 0: no mixture of experts; n_ff_expert: width of one
  uint32_t n_ff_expert = 0;
  // Of mixtures: layers before the first with experts, experts that see every token (as one of their widths together).
  uint32_t n_dense_layers = 0, n_shared_experts = 0;
  RouteSpec route;                                    // but for the numbers of experts
  double expert_scale = 1;                            // of the experts' weights
  // Latent attention: keys and values of all heads from so many values of a token, queries from so many (0: from the stream
  // itself); value_dim: of a head's value. kv_latent 0: none.
  uint32_t kv_latent = 0, q_latent = 0, value_dim = 0;
  bool parallel_residual = false;                     // attention and feed-forward read the same stream
  std::string activation;                             // of the feed-forward, where an architecture has a choice

  bool is_windowed(uint32_t layer) const { return sliding_window > 0 && (windowed.empty() || windowed[layer]); }
};

// How a GGUF tensor is made from the Hugging Face one.
enum class HfTransform {
  kNone,
  kRopeInterleave,  // rows of each head: half-split → interleaved pairs
  kTranspose,
  kAddOne,          // norms that Hugging Face keeps as w and multiplies as 1 + w
  kSplitHeads,      // rows (head, one of q k v, dimension) → (one of q k v, head, dimension)
  kTransposeHead,   // of a tensor with a matrix for each head, each transposed; also those of quantized layouts
};

struct TensorSpec {
  std::string name;     // GGUF: "blk.0.attn_q.weight"
  std::string hf_name;  // Hugging Face: "model.layers.0.self_attn.q_proj.weight"; empty when it is computed (rope_freqs)
  std::vector<uint64_t> shape;  // outermost first, in the GGUF world
  Role role = Role::kOther;
  int layer = -1;
  HfTransform transform = HfTransform::kNone;
  uint32_t n_heads = 0;         // for kRopeInterleave and kSplitHeads
  // Of the source's outputs (rows, of a transposed matrix its columns, values of a bias) every hf_step-th from hf_first on
  // is a row here: gate and up in one tensor of gpt-oss.
  uint32_t hf_first = 0, hf_step = 1;
  // Experts: shape (n_experts, rows, columns), in Hugging Face a matrix for each, under these names (hf_name is empty), or
  // one tensor (n_experts, …) under hf_name.
  std::vector<std::string> hf_parts;
  // A matrix for each head, shape (heads, rows, columns), that the source keeps in one matrix: head_rows rows of it for each
  // head, of which this tensor's begin at head_first. older_name: GGUF's name of that matrix in older files.
  uint32_t head_rows = 0, head_first = 0;
  std::string older_name;
  bool optional = false;
  bool quantizable = true;      // false: norms, biases, position embeddings: least precision F32
  std::vector<float> computed;  // data when hf_name and hf_parts are empty (F32)
};

class Architecture {
 public:
  virtual ~Architecture() = default;
  virtual std::string_view name() const = 0;                              // GGUF name
  virtual std::span<const std::string_view> hf_architectures() const = 0; // "LlamaForCausalLM" …
  virtual std::span<const std::string_view> hf_model_types() const = 0;   // config.json's model_type: "llama" …
  virtual std::string_view summary() const = 0;
  virtual Hparams hparams_from_config(const Json& config, const std::string& where) const = 0;
  virtual Hparams hparams_from_gguf(const GgufMetadata& metadata, const std::string& where) const = 0;
  virtual void hparams_to_gguf(const Hparams& h, GgufMetadata& metadata) const = 0;
  virtual std::vector<TensorSpec> tensors(const Hparams& h) const = 0;
  virtual Graph graph(const Hparams& h) const = 0;
};

std::span<const Architecture* const> architectures();
const Architecture* find_architecture(std::string_view gguf_name);

}  // namespace tsubu
