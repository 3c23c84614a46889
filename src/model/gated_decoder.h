// What Llama and its many relatives share: pre-norm blocks of grouped-query attention with rotary positions and a gated
// feed-forward or a mixture of such experts, RMS norms, a linear head. An architecture of this family says in
// GatedDecoderTraits what is its own. Sources: Llama 2 (arXiv:2307.09288), Mixtral (arXiv:2401.04088), Qwen2
// (arXiv:2407.10671), Qwen3 (arXiv:2505.09388), Gemma 2 (arXiv:2408.00118), Gemma 3 (arXiv:2503.19786), Phi-3
// (arXiv:2404.14219), gpt-oss (arXiv:2508.10925).
#pragma once

#include "model/architecture.h"
#include "model/config_reader.h"
#include "model/tensor_list.h"

namespace tsubu {

// Names of a mixture's matrices in Hugging Face, within a layer; {} stands for the expert's number.
struct ExpertNames {
  std::string_view router, gate, up, down;
};

struct GatedDecoderTraits {
  RopeSpec::Style rope_style = RopeSpec::Style::kHalfSplit;  // kInterleaved: q and k rows of Hugging Face are permuted
  bool qk_norm = false;                                      // RMS norm of each q and k head
  bool always_qkv_bias = false;
  bool attention_bias_key = false;  // config's "attention_bias" (q, k, v, o) and "mlp_bias" are understood
  bool default_tied_embeddings = false;
  bool writes_vocab_size = false;   // "<architecture>.vocab_size"
  OpKind gate = OpKind::kSiluMul;   // the feed-forward's activation
  bool gemma = false;               // 1 + w norms, also behind attention and feed-forward; embeddings times sqrt(n_embd)
  bool fused = false;               // one matrix for q, k, v, and one for gate and up
  bool sinks = false;               // a score for each head that takes part in the softmax
  std::string_view ffn_norm = "ffn_norm";  // its name in GGUF
  // Sliding windows: of every `window_period` layers the last has none; 1: every layer has one; 0: no layer has one.
  uint32_t window_period = 0;
  ExpertNames experts = {};         // of models that say in config.json that they have some
};

class GatedDecoder : public Architecture {
 public:
  Hparams hparams_from_config(const Json& config, const std::string& where) const override;
  Hparams hparams_from_gguf(const GgufMetadata& metadata, const std::string& where) const override;
  void hparams_to_gguf(const Hparams& h, GgufMetadata& metadata) const override;
  std::vector<TensorSpec> tensors(const Hparams& h) const override;
  Graph graph(const Hparams& h) const override;

 protected:
  explicit GatedDecoder(const GatedDecoderTraits& traits) : traits_(traits) {}
  const GatedDecoderTraits& traits() const { return traits_; }
  // What an architecture has besides. The part of config.json that describes the text model, and its defaults:
  virtual Json text_config(const Json& config) const { return config; }
  virtual void add_from_config(const ConfigReader&, Hparams&) const {}
  virtual void add_from_gguf(const GgufReader&, Hparams&) const {}
  virtual void add_to_gguf(const Hparams&, GgufMetadata&) const {}
  virtual void list_experts(const Hparams& h, TensorList& list) const;

 private:
  void experts_from_config(const ConfigReader& config, Hparams& h) const;
  void windows_from_config(const ConfigReader& config, Hparams& h) const;
  void list_attention(const Hparams& h, TensorList& list) const;
  void list_feed_forward(const Hparams& h, TensorList& list) const;
  void list_norm(TensorList& list, std::string_view ours, std::string_view theirs, uint64_t width) const;
  ValueId attention(GraphBuilder& g, const Hparams& h, uint32_t layer, ValueId x) const;
  ValueId feed_forward(GraphBuilder& g, const Hparams& h, uint32_t layer, ValueId x) const;
  GatedDecoderTraits traits_;
};

}  // namespace tsubu
