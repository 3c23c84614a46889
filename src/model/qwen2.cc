// Qwen 1.5, 2 and 2.5 (dense): the Llama family with biases on q, k and v; GGUF's "qwen2". Rotary pairs are (i, i +
// half).
#include "model/architecture_list.h"
#include "model/gated_decoder.h"

namespace tsubu {
namespace {

class Qwen2 : public GatedDecoder {
 public:
  Qwen2() : GatedDecoder({.always_qkv_bias = true}) {}
  std::string_view name() const override { return "qwen2"; }
  std::span<const std::string_view> hf_architectures() const override {
    static constexpr std::string_view kNames[] = {"Qwen2ForCausalLM"};
    return kNames;
  }
  std::span<const std::string_view> hf_model_types() const override {
    static constexpr std::string_view kTypes[] = {"qwen2"};
    return kTypes;
  }
  std::string_view summary() const override { return "Qwen 1.5, 2 and 2.5, dense"; }
};

}  // namespace

const Architecture& qwen2_architecture() {
  static const Qwen2 architecture;
  return architecture;
}

}  // namespace tsubu
