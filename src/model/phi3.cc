// Phi-3, Phi-3.5 and Phi-4 (dense): the Llama family with one matrix for q, k and v and one for gate and up, in both
// worlds, a sliding window and, for long contexts, a factor for each rotary frequency (LongRoPE); GGUF's "phi3". Other
// readers of that GGUF leave the window out. Source: arXiv:2404.14219.
#include "model/architecture_list.h"
#include "model/gated_decoder.h"

namespace tsubu {
namespace {

class Phi3 : public GatedDecoder {
 public:
  Phi3() : GatedDecoder({.fused = true, .window_period = 1}) {}
  std::string_view name() const override { return "phi3"; }
  std::span<const std::string_view> hf_architectures() const override {
    static constexpr std::string_view kNames[] = {"Phi3ForCausalLM"};
    return kNames;
  }
  std::span<const std::string_view> hf_model_types() const override {
    static constexpr std::string_view kTypes[] = {"phi3"};
    return kTypes;
  }
  std::string_view summary() const override { return "Phi-3, Phi-3.5 and Phi-4, dense"; }

 protected:
  // The key must be there; 0 says that there is no window.
  void add_to_gguf(const Hparams& h, GgufMetadata& metadata) const override {
    metadata.set("phi3.attention.sliding_window", GgufValue::u32(h.sliding_window));
  }
};

}  // namespace

const Architecture& phi3_architecture() {
  static const Phi3 architecture;
  return architecture;
}

}  // namespace tsubu
