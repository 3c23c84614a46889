// The one list of architectures: to add one, write its file, declare it in architecture_list.h, name it here.
#include "model/architecture_list.h"

namespace tsubu {

std::span<const Architecture* const> architectures() {
  static const Architecture* const kList[] = {
      &llama_architecture(),
      &qwen2_architecture(),
      &qwen3_architecture(),
      &gpt2_architecture(),
      &gemma2_architecture(),
      &gemma3_architecture(),
      &phi3_architecture(),
      &qwen3moe_architecture(),
      &opt_architecture(),
      &bloom_architecture(),
      &gptneox_architecture(),
      &gpt_oss_architecture(),
      &deepseek2_architecture(),
  };
  return kList;
}

const Architecture* find_architecture(std::string_view gguf_name) {
  for (const Architecture* architecture : architectures())
    if (architecture->name() == gguf_name) return architecture;
  return nullptr;
}

std::string_view role_name(Role role) {
  static constexpr std::string_view kNames[] = {"token_embd", "position_embd", "output",      "norm",     "bias",
                                                "attn_q",     "attn_k",        "attn_v",      "attn_qkv", "attn_output",
                                                "ffn_gate",   "ffn_up",        "ffn_down",    "other"};
  static_assert(std::size(kNames) == static_cast<size_t>(Role::kOther) + 1);
  return kNames[static_cast<size_t>(role)];
}

}  // namespace tsubu
