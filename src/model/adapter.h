// Low-rank adapters of a model's linears, as files, in both worlds:
//   PEFT's directory   adapter_config.json (r, lora_alpha, target_modules …) and adapter_model.safetensors:
//                      base_model.model.<module>.lora_A.weight (r, n_in), .lora_B.weight (n_out, r), rows in the order of
//                      the Hugging Face checkpoint; each expert's linear is a module of its own
//   a GGUF adapter     general.type "adapter", adapter.type "lora", adapter.lora.alpha (F32); <tensor>.lora_a (r, n_in),
//                      <tensor>.lora_b (n_out, r), rows in GGUF's order: those of q and k of "llama" are interleaved; experts:
//                      (n_experts, r, n_in) and (n_experts, n_out, r)
// The addition is alpha / r · B A, r of each tensor its own. Here everything is in GGUF's names and order.
// Sources: peft (tuners/lora, save_and_load.py), llama.cpp (llama-adapter.cpp, convert_lora_to_gguf.py).
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "model/model.h"

namespace tsubu {

struct Adapter {
  // By the weight's GGUF name. Of a stack of experts' matrices: n_rows of all of them, rank of each one, and their factors one
  // behind the other: a (n_matrices · rank, n_cols), b (n_rows, rank).
  std::map<std::string, std::shared_ptr<LowRank>, std::less<>> tensors;
  std::vector<std::string> files;  // that it was read from
  uint64_t n_parameters() const;
};

// path: a directory of PEFT's, or a GGUF adapter. Checks shapes against the model. Throws Error(kBadInput / kUnsupported / kIo):
// also for what is there and is no plain LoRA of linears (DoRA, embeddings, whole modules).
Adapter read_adapter(const std::string& path, const Model& model);
// From now on the model's matrices have the additions.
void add_adapter(Model& model, const Adapter& adapter);

struct AdapterWriting {
  std::string base_name;  // base_model_name_or_path
  double alpha = 0;
  size_t rank = 0;        // of the most tensors
};
// A path that ends in .gguf is a GGUF adapter, else PEFT's directory, which must be new; whole or not at all. Every tensor's scale must be
// alpha / rank of its own. F32.
void write_adapter(const std::string& path, const Model& model, const Adapter& adapter, const AdapterWriting& how);
uint64_t adapter_file_bytes(const std::string& path);

// The linears inside the blocks whose matrix an adapter may take, in graph order, no experts and no routers.
std::vector<std::string> adaptable_tensors(const Model& model);
// The linears of routed experts, in graph order.
std::vector<std::string> adaptable_experts(const Model& model);
// Those that `targets` names, joined by '+': "all" (no experts), "experts", or the last part of a name of either world ("q_proj",
// "attn_q", "ffn_up_exps"; of an expert's module "up_proj", "w1").
// Throws Error(kUsage) for a name that is none.
std::vector<std::string> targeted_tensors(const Model& model, std::string_view targets);

}  // namespace tsubu
