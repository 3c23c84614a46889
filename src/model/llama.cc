// Llama 1, 2, 3 and what is built like it (Mistral, Yi, SmolLM, TinyLlama …), and Mixtral, whose feed-forwards are
// mixtures of experts: GGUF's "llama". Its rotary pairs are neighbors (2i, 2i+1), so the q and k rows of a Hugging Face checkpoint, which rotates (i, i + half), are reordered.
#include "model/architecture_list.h"
#include "model/gated_decoder.h"

namespace tsubu {
namespace {

class Llama : public GatedDecoder {
 public:
  Llama()
      : GatedDecoder({.rope_style = RopeSpec::Style::kInterleaved, .attention_bias_key = true,
                      .writes_vocab_size = true,
                      .experts = {.router = "block_sparse_moe.gate",
                                  .gate = "block_sparse_moe.experts.{}.w1",
                                  .up = "block_sparse_moe.experts.{}.w3",
                                  .down = "block_sparse_moe.experts.{}.w2"}}) {}
  std::string_view name() const override { return "llama"; }
  std::span<const std::string_view> hf_architectures() const override {
    static constexpr std::string_view kNames[] = {"LlamaForCausalLM", "LLaMAForCausalLM", "MistralForCausalLM",
                                                  "MixtralForCausalLM"};
    return kNames;
  }
  std::span<const std::string_view> hf_model_types() const override {
    static constexpr std::string_view kTypes[] = {"llama", "mistral", "mixtral"};
    return kTypes;
  }
  std::string_view summary() const override { return "Llama 1 to 3, Mistral 7B, Mixtral and their like"; }
};

}  // namespace

const Architecture& llama_architecture() {
  static const Llama architecture;
  return architecture;
}

}  // namespace tsubu
