// TensorList; see tensor_list.h.
#include "model/tensor_list.h"

#include "base/error.h"

namespace tsubu {

void TensorList::enter_block(uint32_t layer, std::string_view hf_prefix) {
  layer_ = static_cast<int>(layer);
  prefix_ = fmt::format("blk.{}.", layer);
  hf_prefix_ = fmt::format("{}{}.", hf_prefix, layer);
}

void TensorList::leave_blocks() {
  layer_ = -1;
  prefix_.clear();
  hf_prefix_.clear();
}

TensorSpec& TensorList::push(std::string_view name, std::string_view hf_name, std::string_view suffix) {
  TensorSpec spec;
  spec.name = fmt::format("{}{}{}", prefix_, name, suffix);
  spec.hf_name = fmt::format("{}{}{}", hf_prefix_, hf_name, suffix);
  spec.layer = layer_;
  specs_.push_back(std::move(spec));
  return specs_.back();
}

void TensorList::weight(std::string_view name, std::string_view hf_name, std::vector<uint64_t> shape, Role role) {
  TensorSpec& spec = push(name, hf_name, ".weight");
  spec.shape = std::move(shape);
  spec.role = role;
  spec.quantizable = role != Role::kPositionEmbedding;
}

void TensorList::experts(std::string_view name, std::string_view hf_name, std::vector<uint64_t> shape, Role role) {
  TensorSpec& spec = push(name, "", ".weight");
  spec.hf_name.clear();
  for (uint64_t expert = 0; expert < shape.front(); ++expert)
    spec.hf_parts.push_back(hf_prefix_ + fmt::format(fmt::runtime(hf_name), expert) + ".weight");
  spec.shape = std::move(shape);
  spec.role = role;
}

void TensorList::norm(std::string_view name, std::string_view hf_name, uint64_t width) {
  TensorSpec& spec = push(name, hf_name, ".weight");
  spec.shape = {width};
  spec.role = Role::kNorm;
  spec.quantizable = false;
}

void TensorList::bias(std::string_view name, std::string_view hf_name, uint64_t width) {
  TensorSpec& spec = push(name, hf_name, ".bias");
  spec.shape = {width};
  spec.role = Role::kBias;
  spec.quantizable = false;
}

void TensorList::computed(std::string_view full_name, std::vector<float> values) {
  TensorSpec spec;
  spec.name = full_name;
  spec.shape = {values.size()};
  spec.quantizable = false;
  spec.computed = std::move(values);
  specs_.push_back(std::move(spec));
}

void TensorList::interleave_from(size_t first, uint32_t n_heads) {
  for (size_t i = first; i < specs_.size(); ++i) {
    specs_[i].transform = HfTransform::kRopeInterleave;
    specs_[i].n_heads = n_heads;
  }
}

uint32_t vocabulary_size_from_gguf(const GgufMetadata& metadata, const GgufReader& reader) {
  if (const GgufValue* tokens = metadata.find("tokenizer.ggml.tokens")) {
    const GgufArray* list = tokens->as_array();
    if (!list || list->size() > kMaxVocab)
      fail(ExitCode::kBadInput, "{}: metadata tokenizer.ggml.tokens: expected a list of at most {} tokens",
           reader.where(), kMaxVocab);
    if (list->size() > 0) return static_cast<uint32_t>(list->size());
  }
  return static_cast<uint32_t>(reader.find_uint("vocab_size", 0, kMaxVocab).value_or(0));
}

}  // namespace tsubu
