// The one object of each architecture; architectures.cc makes the list of them.
#pragma once

#include "model/architecture.h"

namespace tsubu {

const Architecture& llama_architecture();
const Architecture& qwen2_architecture();
const Architecture& qwen3_architecture();
const Architecture& gpt2_architecture();
const Architecture& gemma2_architecture();
const Architecture& gemma3_architecture();
const Architecture& phi3_architecture();
const Architecture& qwen3moe_architecture();
const Architecture& opt_architecture();
const Architecture& bloom_architecture();
const Architecture& gptneox_architecture();
const Architecture& gpt_oss_architecture();
const Architecture& deepseek2_architecture();

}  // namespace tsubu
