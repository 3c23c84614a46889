// The two ways a model is stored, each behind Model: what Model::open chooses between. Shared checks live here, too.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "model/model.h"

namespace tsubu {

std::unique_ptr<Model> open_gguf_model(const std::string& path);
std::unique_ptr<Model> open_hf_model(const std::string& path);

// "llama (LlamaForCausalLM, MistralForCausalLM), qwen2 (…)": for messages.
std::string supported_architectures();
// "(4096, 1024)".
std::string shape_text(const std::vector<uint64_t>& shape);
// One warning about tensors that the architecture does not know; none when the list is empty.
void warn_unknown_tensors(const std::string& where, std::string_view architecture,
                          const std::vector<std::string>& names);

}  // namespace tsubu
