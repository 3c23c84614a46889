// Model: what is common to all layouts on disk. See model.h.
#include "model/model.h"

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "base/progress.h"
#include "model/model_sources.h"

namespace tsubu {

namespace fs = std::filesystem;

std::unique_ptr<Model> Model::open(const std::string& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status))
    fail(ExitCode::kIo, "{}: no such file or directory: expected a GGUF file or a Hugging Face model directory", path);
  if (fs::is_directory(status)) return open_hf_model(path);

  const fs::path file(path);
  const std::string extension = file.extension().string();
  const std::string directory = file.has_parent_path() ? file.parent_path().string() : ".";
  if (extension == ".safetensors" || extension == ".json")
    fail(ExitCode::kUsage, "{}: one file of a Hugging Face model: give its directory instead: {}", path, directory);
  for (const char* pickle : {".bin", ".pt", ".pth", ".ckpt", ".pkl"})
    if (extension == pickle)
      fail(
          ExitCode::kUnsupported,
          "{}: Python pickles are refused, because reading one means running code out of it: expected a GGUF file or a "
          "directory with safetensors",
          path);
  return open_gguf_model(path);
}

void Model::bind(const TensorSpec& spec, const TypeInfo& type, std::span<const std::byte> data) {
  ModelTensor tensor;
  tensor.spec_ = spec;
  tensor.type_ = &type;
  tensor.data_ = data;
  tensors_.push_back(std::move(tensor));
  ModelTensor& bound = tensors_.back();
  // Computed values live in the spec; moving a vector of floats does not move its elements.
  if (!bound.spec_.computed.empty()) bound.data_ = std::as_bytes(std::span(bound.spec_.computed));
}

void Model::bind(const TensorSpec& spec, std::shared_ptr<const QuantMatrix> matrix) {
  bind(spec, matrix->value_type(), {});
  tensors_.back().quantized_ = std::move(matrix);
}

void Model::bind_heads(const TensorSpec& spec, const TypeInfo& type, std::span<const std::byte> data) {
  TensorSpec part = spec;
  part.shape.erase(part.shape.begin());
  const bool turned = spec.transform == HfTransform::kTransposeHead;
  const uint64_t rows = part.shape[turned ? 1 : 0], row_bytes = part.shape[turned ? 0 : 1] / type.block_len * type.block_bytes;
  for (uint64_t head = 0; head < spec.shape[0]; ++head)
    bind(part, type, data.subspan((head * spec.head_rows + spec.head_first) * row_bytes, rows * row_bytes));
  bind_stack(spec, spec.shape[0]);
}

void Model::bind_stack(const TensorSpec& spec, size_t n_matrices) {
  ModelTensor stack;
  stack.spec_ = spec;
  stack.spec_.transform = HfTransform::kNone;
  stack.spec_.hf_step = 1;
  const auto first = tensors_.end() - static_cast<std::ptrdiff_t>(n_matrices);
  stack.parts_.assign(std::make_move_iterator(first), std::make_move_iterator(tensors_.end()));
  tensors_.erase(first, tensors_.end());
  stack.type_ = stack.parts_.front().type_;
  tensors_.push_back(std::move(stack));
}

void Model::route_all_experts() {
  if (route_all(graph_) == 0) fail(ExitCode::kUnsupported, "{}: the model is no mixture of experts", path_);
}

void Model::add_low_rank(std::string_view name, std::shared_ptr<const LowRank> addition) {
  const auto it = std::find_if(tensors_.begin(), tensors_.end(), [&](const ModelTensor& t) { return t.name() == name; });
  if (it == tensors_.end()) fail(ExitCode::kBadInput, "{}: there is no tensor {}", path_, name);
  *it = it->with_low_rank(std::move(addition));
}

const ModelTensor* Model::find(std::string_view name) const {
  const auto it =
      std::find_if(tensors_.begin(), tensors_.end(), [&](const ModelTensor& t) { return t.name() == name; });
  return it == tensors_.end() ? nullptr : &*it;
}

const ModelTensor& Model::tensor(std::string_view name) const {
  const ModelTensor* found = find(name);
  if (!found) fail(ExitCode::kBadInput, "{}: there is no tensor {}", path_, name);
  return *found;
}

uint64_t Model::weight_bytes() const {
  uint64_t total = 0;
  for (const ModelTensor& tensor : tensors_) total += tensor.size_bytes();
  return total;
}

uint64_t Model::n_parameters() const {
  uint64_t total = 0;
  for (const ModelTensor& tensor : tensors_) total += tensor.n_elements();
  return total;
}

std::string head_weight_name(const Model& model) {
  return model.find("output.weight") ? "output.weight" : "token_embd.weight";
}

std::string supported_architectures() {
  std::string text;
  for (const Architecture* architecture : architectures()) {
    std::string names;
    for (std::string_view name : architecture->hf_architectures())
      names += (names.empty() ? "" : ", ") + std::string(name);
    text += fmt::format("{}{} ({})", text.empty() ? "" : ", ", architecture->name(), names);
  }
  return text;
}

std::string shape_text(const std::vector<uint64_t>& shape) {
  std::string text;
  for (uint64_t n : shape) text += (text.empty() ? "" : ", ") + std::to_string(n);
  return "(" + text + ")";
}

void warn_unknown_tensors(const std::string& where, std::string_view architecture,
                          const std::vector<std::string>& names) {
  if (names.empty()) return;
  std::string list;
  for (size_t i = 0; i < std::min<size_t>(names.size(), 3); ++i) list += (i ? ", " : "") + names[i];
  if (names.size() > 3) list += ", …";
  warn(fmt::format("{}: {} tensor(s) that architecture \"{}\" does not know are left out: {}", where, names.size(),
                   architecture, list));
}

}  // namespace tsubu
