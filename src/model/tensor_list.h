// How an architecture writes down its tensors: one call each, with the name in GGUF and in Hugging Face.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "model/architecture.h"
#include "model/config_reader.h"

namespace tsubu {

class TensorList {
 public:
  // From here on names are prefixed with "blk.<layer>." and, in Hugging Face, "<hf_prefix><layer>.".
  void enter_block(uint32_t layer, std::string_view hf_prefix);
  void leave_blocks();

  void weight(std::string_view name, std::string_view hf_name, std::vector<uint64_t> shape, Role role);
  // The matrices of all experts, (n_experts, rows, cols); hf_name has {} where the expert's number stands.
  void experts(std::string_view name, std::string_view hf_name, std::vector<uint64_t> shape, Role role);
  void norm(std::string_view name, std::string_view hf_name, uint64_t width);
  void bias(std::string_view name, std::string_view hf_name, uint64_t width);
  void computed(std::string_view full_name, std::vector<float> values);  // F32 vector that Hugging Face does not store

  size_t size() const { return specs_.size(); }
  TensorSpec& last() { return specs_.back(); }
  // The tensors from `first` on hold rows of rotated heads that Hugging Face keeps in half-split order.
  void interleave_from(size_t first, uint32_t n_heads);
  std::vector<TensorSpec> finish() { return std::move(specs_); }

 private:
  TensorSpec& push(std::string_view name, std::string_view hf_name, std::string_view suffix);
  std::vector<TensorSpec> specs_;
  std::string prefix_, hf_prefix_;
  int layer_ = -1;
};

// Number of tokens: the list's length, else "<architecture>.vocab_size", else 0 (the embedding says it).
uint32_t vocabulary_size_from_gguf(const GgufMetadata& metadata, const GgufReader& reader);

}  // namespace tsubu
