// A model in a Hugging Face directory, seen as the GGUF file that it would become.
#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"
#include "base/progress.h"
#include "checkpoint/gguf_vocabulary.h"
#include "checkpoint/hf_directory.h"
#include "checkpoint/quant_rows.h"
#include "model/config_reader.h"
#include "model/model_sources.h"

namespace tsubu {
namespace {

// llama.cpp's numbers for general.file_type of unquantized files.
constexpr uint32_t kFileTypeF32 = 0, kFileTypeF16 = 1, kFileTypeBF16 = 32;

// Buffers that old checkpoints carry along: masks and frequencies, which follow from the configuration.
bool is_known_buffer(std::string_view name) {
  for (std::string_view suffix : {".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"})
    if (name.ends_with(suffix)) return true;
  return false;
}

// Some GPTQ tools write a bias of zeros for every linear.
bool is_zero_bias(const SafeTensor& tensor) {
  return tensor.name.ends_with(".bias") &&
         std::all_of(tensor.data.begin(), tensor.data.end(), [](std::byte b) { return b == std::byte{0}; });
}

class HfModel : public Model {
 public:
  explicit HfModel(const std::string& path) : directory_(HfDirectory::open(path)) {
    path_ = path;
    layout_ = directory_.quantized.by_name.empty() ? "hf" : directory_.quantized.layout_names();
    files_ = directory_.weights.paths();
    if (directory_.quantized.by_name.empty() && !directory_.quantization.method.empty())
      warn(fmt::format("{}: says {}, but no tensor is quantized: read as floats", directory_.quantization.where,
                       directory_.quantization.method));
    choose_architecture();
    hparams_ = architecture_->hparams_from_config(directory_.config, directory_.config_path);
    bind_tensors();
    vocabulary_ = vocabulary_from_directory(path_, hparams_.n_vocab);
    graph_ = architecture_->graph(hparams_);
    make_metadata();
  }

 private:
  void choose_architecture() {
    for (const std::string& wanted : directory_.architectures)
      for (const Architecture* architecture : architectures()) {
        const auto names = architecture->hf_architectures();
        if (std::find(names.begin(), names.end(), wanted) == names.end()) continue;
        architecture_ = architecture;
        return;
      }
    std::string found;
    if (directory_.architectures.empty()) {
      // Configurations of the bare model, and old ones, say only the family.
      const ConfigReader config(directory_.config, directory_.config_path);
      const auto type = config.find_string("model_type");
      if (!type)
        fail(ExitCode::kBadInput,
             "{}: \"architectures\" and \"model_type\" are missing; expected a list with one of: {}",
             directory_.config_path, supported_architectures());
      for (const Architecture* architecture : architectures()) {
        const auto types = architecture->hf_model_types();
        if (std::find(types.begin(), types.end(), *type) == types.end()) continue;
        architecture_ = architecture;
        return;
      }
      found = "model_type \"" + *type + "\"";
    } else {
      found = "architecture \"" + directory_.architectures[0] + "\"";
    }
    fail(ExitCode::kUnsupported, "{}: {} is not supported; supported: {}", directory_.config_path, found,
         supported_architectures());
  }

  // A checkpoint of the bare model lacks the first part of each name ("model.", "transformer."); in one of a model that
  // sees images, too, the text model's names stand under "language_model".
  static std::vector<std::string> names_of(const std::string& hf_name) {
    const std::string rest = hf_name.substr(hf_name.find('.') + 1);
    std::vector<std::string> names = {hf_name, "language_model." + hf_name};
    if (hf_name.starts_with("lm_head.")) return names;
    names.push_back(rest);
    names.push_back("model.language_model." + rest);
    return names;
  }

  const SafeTensor* find_source(const std::string& hf_name) const {
    for (const std::string& name : names_of(hf_name))
      if (const SafeTensor* tensor = directory_.weights.find(name)) return tensor;
    return nullptr;
  }

  // The quantized module of a weight.
  const QuantizedModule* find_quantized(const std::string& hf_name) const {
    constexpr std::string_view kWeight = ".weight";
    if (!hf_name.ends_with(kWeight)) return nullptr;
    for (const std::string& name : names_of(hf_name.substr(0, hf_name.size() - kWeight.size())))
      if (const QuantizedModule* found = directory_.quantized.find(name)) return found;
    return nullptr;
  }

  // The quantized matrix of all experts, which gpt-oss keeps under the tensor's own name.
  const QuantizedModule* find_quantized_stack(const TensorSpec& spec) const {
    if (spec.shape.size() != 3) return nullptr;
    for (const std::string& name : names_of(spec.hf_name))
      if (const QuantizedModule* found = directory_.quantized.find(name)) return found;
    return nullptr;
  }

  void check_quantized(const TensorSpec& spec, const QuantMatrix& matrix) const {
    const std::vector<uint64_t> found = {matrix.n_rows(), matrix.n_cols()};
    if (found == spec.shape) return;
    fail(ExitCode::kBadInput, "{}: tensor {}: config.json makes it {}, found {} ({})", file_of(*matrix.parts().front()),
         spec.hf_name, shape_text(spec.shape), shape_text(found), matrix.kind());
  }

  const std::string& file_of(const SafeTensor& tensor) const { return files_.at(tensor.shard); }

  void check_shape(const TensorSpec& spec, const SafeTensor& source) const {
    std::vector<uint64_t> expected = spec.shape;
    if (spec.transform == HfTransform::kTranspose)
      std::swap(expected[expected.size() - 2], expected[expected.size() - 1]);
    expected.back() *= spec.hf_step;
    if (source.shape == expected) return;
    if (spec.role == Role::kTokenEmbedding && source.shape.size() == 2 && source.shape[1] == expected[1])
      fail(ExitCode::kBadInput, "{}: tensor {} has {} rows, but config.json's vocab_size is {}", file_of(source),
           source.name, source.shape[0], expected[0]);
    fail(ExitCode::kBadInput, "{}: tensor {}: config.json makes it {}, found {}", file_of(source), source.name,
         shape_text(expected), shape_text(source.shape));
  }

  void bind_tensors() {
    std::set<std::string_view> used;
    for (const TensorSpec& spec : architecture_->tensors(hparams_)) {
      if (!spec.hf_parts.empty()) {
        bind_experts(spec, used);
      } else if (spec.hf_name.empty()) {
        bind(spec, type_named("F32"), {});
      } else {
        bind_source(spec, used);
      }
    }
    std::vector<std::string> unknown;
    for (const SafeTensor& tensor : directory_.weights.tensors()) {
      const bool tied_head = hparams_.tied_embeddings && tensor.name.starts_with("lm_head.");
      const bool known = is_known_buffer(tensor.name) || is_activation_scale(tensor.name) || is_zero_bias(tensor);
      if (!used.contains(tensor.name) && !tied_head && !known) unknown.push_back(tensor.name);
    }
    warn_unknown_tensors(path_, architecture_->name(), unknown);
  }

  // One tensor of the directory; an optional one may be missing.
  void bind_source(const TensorSpec& spec, std::set<std::string_view>& used) {
    if (const QuantizedModule* module = find_quantized(spec.hf_name)) {
      if (spec.head_rows > 0) return bind_quantized_heads(spec, *module, used);
      check_quantized(spec, *module->matrix);
      for (const SafeTensor* part : module->matrix->parts()) used.insert(part->name);
      return bind(spec, module->matrix);
    }
    if (const QuantizedModule* module = find_quantized_stack(spec)) return bind_quantized_stack(spec, *module, used);
    const SafeTensor* source = find_source(spec.hf_name);
    if (!source && spec.optional) return;
    if (!source)
      fail(ExitCode::kBadInput, "{}: tensor {} (GGUF: {}) is missing{}", path_, spec.hf_name, spec.name,
           spec.role == Role::kOutput ? ": without it config.json must say \"tie_word_embeddings\": true" : "");
    const TypeInfo& type = type_of_tensor(*source, file_of(*source));
    used.insert(source->name);
    if (spec.head_rows > 0) {
      check_shape(source_of_heads(spec), *source);
      return bind_heads(spec, type, source->data);
    }
    check_shape(spec, *source);
    if (spec.shape.size() < 3) return bind(spec, type, source->data);
    TensorSpec part = spec;
    part.shape.erase(part.shape.begin());
    const size_t bytes = source->data.size() / spec.shape.front();
    for (uint64_t i = 0; i < spec.shape.front(); ++i) bind(part, type, source->data.subspan(i * bytes, bytes));
    bind_stack(spec, spec.shape.front());
  }

  // The matrix that holds rows of several tensors for each head.
  static TensorSpec source_of_heads(const TensorSpec& spec) {
    TensorSpec source = spec;
    const bool turned = spec.transform == HfTransform::kTransposeHead;
    source.transform = HfTransform::kNone;
    source.shape = {spec.shape[0] * spec.head_rows, spec.shape[turned ? 1 : 2]};
    return source;
  }

  void bind_quantized_heads(const TensorSpec& spec, const QuantizedModule& module, std::set<std::string_view>& used) {
    check_quantized(source_of_heads(spec), *module.matrix);
    for (const SafeTensor* tensor : module.matrix->parts()) used.insert(tensor->name);
    TensorSpec part = spec;
    part.shape.erase(part.shape.begin());
    const uint64_t rows = part.shape[spec.transform == HfTransform::kTransposeHead ? 1 : 0];
    for (uint64_t head = 0; head < spec.shape[0]; ++head)
      bind(part, quant_rows(module.matrix, head * spec.head_rows + spec.head_first, 1, rows));
    bind_stack(spec, spec.shape[0]);
  }

  // Rows (expert, output · step): a quantized tensor is the logical one, never transposed.
  void bind_quantized_stack(const TensorSpec& spec, const QuantizedModule& module, std::set<std::string_view>& used) {
    const uint64_t n = spec.shape[0], rows = spec.shape[1], step = spec.hf_step;
    const QuantMatrix& matrix = *module.matrix;
    if (matrix.n_rows() != n * rows * step || matrix.n_cols() != spec.shape[2])
      fail(ExitCode::kBadInput, "{}: tensor {}: config.json makes it {} experts of {} x {}, found {} x {} in all ({})",
           file_of(*matrix.parts().front()), matrix.parts().front()->name, n, rows * step, spec.shape[2], matrix.n_rows(),
           matrix.n_cols(), matrix.kind());
    for (const SafeTensor* tensor : matrix.parts()) used.insert(tensor->name);
    TensorSpec part = spec;
    part.shape.erase(part.shape.begin());
    part.transform = HfTransform::kNone;
    part.hf_first = 0;
    part.hf_step = 1;
    for (uint64_t e = 0; e < n; ++e) bind(part, quant_rows(module.matrix, e * rows * step + spec.hf_first, step, rows));
    bind_stack(spec, n);
  }

  // A matrix for each expert, which GGUF keeps as one tensor.
  void bind_experts(const TensorSpec& spec, std::set<std::string_view>& used) {
    for (const std::string& name : spec.hf_parts) {
      TensorSpec part = spec;
      part.hf_parts.clear();
      part.hf_name = name;
      part.shape.erase(part.shape.begin());
      bind_source(part, used);
    }
    bind_stack(spec, spec.hf_parts.size());
  }

  uint32_t file_type() const {
    std::map<std::string_view, uint64_t> bytes_of;
    for (const ModelTensor& tensor : tensors_) bytes_of[tensor.type().name] += tensor.size_bytes();
    const uint64_t f16 = bytes_of["F16"], bf16 = bytes_of["BF16"], f32 = bytes_of["F32"];
    if (bf16 >= f16 && bf16 >= f32) return kFileTypeBF16;
    return f16 >= f32 ? kFileTypeF16 : kFileTypeF32;
  }

  void make_metadata() {
    metadata_.set("general.architecture", GgufValue::string(std::string(architecture_->name())));
    metadata_.set("general.type", GgufValue::string("model"));
    metadata_.set("general.name", GgufValue::string(directory_.model_name()));
    metadata_.set("general.file_type", GgufValue::u32(file_type()));
    architecture_->hparams_to_gguf(hparams_, metadata_);
    vocabulary_to_gguf(vocabulary_, metadata_);
  }

  HfDirectory directory_;
};

}  // namespace

std::unique_ptr<Model> open_hf_model(const std::string& path) { return std::make_unique<HfModel>(path); }

}  // namespace tsubu
