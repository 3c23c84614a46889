// The tensors of a model as a Hugging Face directory has them: of a mixture of experts each expert's matrix under a name of
// its own, or all of them in one tensor, whose outputs may be those of gate and up in turn (gpt-oss); of latent attention keys
// and values of each head in one matrix (DeepSeek).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/threads.h"
#include "model/model.h"

namespace tsubu {

struct HfTensor {
  TensorSpec spec;  // name, shape and transform of this one: two dimensions for an expert that stands by itself
  // Where its values are: one, or of a stack those whose outputs take turns, or whose rows make up a head, in their order.
  std::vector<const ModelTensor*> sources;
  std::optional<uint64_t> expert;  // which matrix of sources.front()
  bool is_stack = false;           // a tensor for all experts or heads: see hf_stack.h
  bool is_heads() const { return spec.head_rows > 0; }

  const std::string& gguf_name() const { return sources.front()->name(); }
  // The matrix; a view into the model. Not of a stack.
  ModelTensor tensor() const { return expert ? sources.front()->matrix(*expert) : *sources.front(); }
};

// In the order of the model's tensors; without those that Hugging Face does not store.
std::vector<HfTensor> hf_tensors(const Model& model);

// "model.layers.0.mlp.up_proj" of "model.layers.0.mlp.up_proj.weight".
std::string hf_module(const std::string& hf_name);
// All modules that a tensor of the architecture is in Hugging Face: one, or one for each expert.
std::vector<std::string> hf_modules(const TensorSpec& spec);

// All rows in Hugging Face's order, untransposed. Throws Error(kBadInput) with the place of a weight that is not finite.
std::vector<float> read_hf_rows(const ModelTensor& t, const TensorSpec& spec, ThreadPool& pool);

}  // namespace tsubu
