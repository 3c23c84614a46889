// Gemma 3, the text model: Gemma 2 with norms of the q and k heads in place of soft-capped scores, five layers with a
// sliding window (and a rotary base of their own) for one without; GGUF's "gemma3". Source: arXiv:2503.19786.
#include "base/error.h"
#include "model/architecture_list.h"
#include "model/gemma.h"

namespace tsubu {
namespace {

constexpr uint32_t kLargest = 62;  // layers of the 27-billion-parameter model
constexpr double kLocalBase = 10000;

class Gemma3 : public GatedDecoder {
 public:
  Gemma3()
      : GatedDecoder({.qk_norm = true,
                      .default_tied_embeddings = true,
                      .gate = OpKind::kGeluMul,
                      .gemma = true,
                      .window_period = 6}) {}
  std::string_view name() const override { return "gemma3"; }
  std::span<const std::string_view> hf_architectures() const override {
    static constexpr std::string_view kNames[] = {"Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"};
    return kNames;
  }
  std::span<const std::string_view> hf_model_types() const override {
    static constexpr std::string_view kTypes[] = {"gemma3_text", "gemma3"};
    return kTypes;
  }
  std::string_view summary() const override { return "Gemma 3, text"; }

 protected:
  // Models that see images keep the text model's part apart; both forms leave out what is the family's default.
  Json text_config(const Json& config) const override {
    Json text = config;
    if (config.is_object() && config.contains("text_config")) text = config["text_config"];
    if (!text.is_object()) return text;
    const Json defaults = {{"vocab_size", 262208},       {"hidden_size", 2304},       {"intermediate_size", 9216},
                           {"num_hidden_layers", 26},    {"num_attention_heads", 8},  {"num_key_value_heads", 4},
                           {"head_dim", 256},            {"rms_norm_eps", 1e-6},      {"max_position_embeddings", 131072},
                           {"sliding_window", 4096}};
    for (const auto& [key, value] : defaults.items())
      if (!text.contains(key)) text[key] = value;
    return text;
  }
  void add_from_config(const ConfigReader& config, Hparams& h) const override {
    gemma_scale_from_config(config, h, kLargest, 256);
    h.rope_base = 1e6;
    h.local_rope_base = config.find_number("rope_local_base_freq", 1.0 + 1e-6, 1e15).value_or(kLocalBase);
    h.logit_softcap = config.find_number("final_logit_softcapping", 0, 1e9).value_or(0);
    if (config.find_number("attn_logit_softcapping", 0, 1e9).value_or(0) != 0)
      fail(ExitCode::kUnsupported, "{}: attn_logit_softcapping has no counterpart in GGUF's \"gemma3\"", config.where());
    if (config.find_bool("use_bidirectional_attention").value_or(false))
      fail(ExitCode::kUnsupported, "{}: use_bidirectional_attention is not supported: this is no causal model",
           config.where());
  }
  void add_from_gguf(const GgufReader& metadata, Hparams& h) const override {
    gemma_scale_from_gguf(metadata, h, kLargest);
    h.rope_base = 1e6;
    h.local_rope_base = metadata.find_number("rope.freq_base_swa", 1.0 + 1e-6, 1e15).value_or(kLocalBase);
    h.logit_softcap = metadata.find_number("final_logit_softcapping", 0, 1e9).value_or(0);
  }
  void add_to_gguf(const Hparams& h, GgufMetadata& metadata) const override {
    gemma_scale_to_gguf(h, metadata, kLargest);
    if (h.logit_softcap != 0)
      metadata.set("gemma3.final_logit_softcapping", GgufValue::f32(static_cast<float>(h.logit_softcap)));
  }
};

}  // namespace

const Architecture& gemma3_architecture() {
  static const Gemma3 architecture;
  return architecture;
}

}  // namespace tsubu
