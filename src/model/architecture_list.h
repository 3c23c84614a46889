// The one object of each architecture; architectures.cc makes the list of them.
#pragma once

#include "model/architecture.h"

namespace tsubu {

const Architecture& llama_architecture();
const Architecture& qwen2_architecture();
const Architecture& qwen3_architecture();
const Architecture& gpt2_architecture();

}  // namespace tsubu
