// What Llama and its many relatives share: pre-norm blocks of grouped-query attention with rotary positions and a gated
// SiLU feed-forward, RMS norms, a linear head. An architecture of this family says in GatedDecoderTraits what is its
// own. Sources: Llama 2 (arXiv:2307.09288), Qwen2 (arXiv:2407.10671), Qwen3 (arXiv:2505.09388).
#pragma once

#include "model/architecture.h"
#include "model/config_reader.h"

namespace tsubu {

struct GatedDecoderTraits {
  RopeSpec::Style rope_style = RopeSpec::Style::kHalfSplit;  // kInterleaved: q and k rows of Hugging Face are permuted
  bool qk_norm = false;                                      // RMS norm of each q and k head
  bool always_qkv_bias = false;
  bool attention_bias_key = false;  // config's "attention_bias" (q, k, v, o) and "mlp_bias" are understood
  bool default_tied_embeddings = false;
  bool writes_vocab_size = false;  // "<architecture>.vocab_size"
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

 private:
  GatedDecoderTraits traits_;
};

}  // namespace tsubu
