// Qwen 3 (dense): the Llama family with an RMS norm on each q and k head, and a head size that need not be
// embedding / heads; GGUF's "qwen3". Rotary pairs are (i, i + half).
#include "model/architecture_list.h"
#include "model/gated_decoder.h"

namespace tsubu {
namespace {

class Qwen3 : public GatedDecoder {
 public:
  Qwen3() : GatedDecoder({.qk_norm = true}) {}
  std::string_view name() const override { return "qwen3"; }
  std::span<const std::string_view> hf_architectures() const override {
    static constexpr std::string_view kNames[] = {"Qwen3ForCausalLM"};
    return kNames;
  }
  std::span<const std::string_view> hf_model_types() const override {
    static constexpr std::string_view kTypes[] = {"qwen3"};
    return kTypes;
  }
  std::string_view summary() const override { return "Qwen 3, dense"; }
};

}  // namespace

const Architecture& qwen3_architecture() {
  static const Qwen3 architecture;
  return architecture;
}

}  // namespace tsubu
