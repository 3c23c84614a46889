// Gemma 2: the Llama family with 1 + w norms before and behind attention and feed-forward, GELU gates, soft-capped
// scores and logits, and a sliding window in every other layer; GGUF's "gemma2". Source: arXiv:2408.00118.
#include "model/architecture_list.h"
#include "model/gemma.h"

namespace tsubu {

namespace {

constexpr uint32_t kLargest = 46;  // layers of the 27-billion-parameter model

class Gemma2 : public GatedDecoder {
 public:
  Gemma2()
      : GatedDecoder({.default_tied_embeddings = true, .gate = OpKind::kGeluMul, .gemma = true, .window_period = 2}) {}
  std::string_view name() const override { return "gemma2"; }
  std::span<const std::string_view> hf_architectures() const override {
    static constexpr std::string_view kNames[] = {"Gemma2ForCausalLM"};
    return kNames;
  }
  std::span<const std::string_view> hf_model_types() const override {
    static constexpr std::string_view kTypes[] = {"gemma2"};
    return kTypes;
  }
  std::string_view summary() const override { return "Gemma 2"; }

 protected:
  void add_from_config(const ConfigReader& config, Hparams& h) const override {
    gemma_scale_from_config(config, h, kLargest, 256);
    h.attention_softcap = config.find_number("attn_logit_softcapping", 0, 1e9).value_or(0);
    h.logit_softcap = config.find_number("final_logit_softcapping", 0, 1e9).value_or(0);
  }
  void add_from_gguf(const GgufReader& metadata, Hparams& h) const override {
    gemma_scale_from_gguf(metadata, h, kLargest);
    h.attention_softcap = metadata.find_number("attn_logit_softcapping", 0, 1e9).value_or(50);
    h.logit_softcap = metadata.find_number("final_logit_softcapping", 0, 1e9).value_or(30);
  }
  void add_to_gguf(const Hparams& h, GgufMetadata& metadata) const override {
    gemma_scale_to_gguf(h, metadata, kLargest);
    metadata.set("gemma2.attn_logit_softcapping", GgufValue::f32(static_cast<float>(h.attention_softcap)));
    metadata.set("gemma2.final_logit_softcapping", GgufValue::f32(static_cast<float>(h.logit_softcap)));
  }
};

}  // namespace

const Architecture& gemma2_architecture() {
  static const Gemma2 architecture;
  return architecture;
}

}  // namespace tsubu
