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
  kAttnQ, kAttnK, kAttnV, kAttnQkv, kAttnOutput, kFfnGate, kFfnUp, kFfnDown, kOther,
};
std::string_view role_name(Role role);  // "attn_q", "ffn_down", "token_embd", "output" …

struct RopeScaling {
  std::string kind;  // "", "linear", "llama3", "yarn"
  double factor = 1, low_freq_factor = 1, high_freq_factor = 4;
  uint32_t original_context = 0;
  double attention_factor = 0, beta_fast = 32, beta_slow = 1;  // attention_factor 0: YaRN's 0.1 ln(factor) + 1
  double extrapolation = 1;                                     // YaRN: share of the ramp that is applied
  std::vector<float> frequency_factors;  // rope_freqs.weight: each frequency is divided by its factor; empty: none
};

struct Hparams {
  std::string architecture;  // GGUF's general.architecture
  uint32_t n_layers = 0, n_embd = 0, n_ff = 0, n_heads = 0, n_kv_heads = 0, head_dim = 0, n_vocab = 0, n_ctx = 0;
  uint32_t rope_dims = 0, sliding_window = 0;
  double norm_eps = 1e-5, rope_base = 10000;
  RopeScaling rope_scaling;
  bool tied_embeddings = false, qkv_bias = false, attn_output_bias = false, mlp_bias = false;
};

// How a GGUF tensor is made from the Hugging Face one.
enum class HfTransform { kNone, kRopeInterleave /* rows of each head: half-split → interleaved pairs */, kTranspose };

struct TensorSpec {
  std::string name;     // GGUF: "blk.0.attn_q.weight"
  std::string hf_name;  // Hugging Face: "model.layers.0.self_attn.q_proj.weight"; empty when it is computed (rope_freqs)
  std::vector<uint64_t> shape;  // outermost first, in the GGUF world
  Role role = Role::kOther;
  int layer = -1;
  HfTransform transform = HfTransform::kNone;
  uint32_t n_heads = 0;         // for kRopeInterleave
  bool optional = false;
  bool quantizable = true;      // false: norms, biases, position embeddings: least precision F32
  std::vector<float> computed;  // data when hf_name is empty (F32)
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
