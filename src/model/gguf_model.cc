// A model in a GGUF file (or a split one): metadata and tensors as they are there, in the file's order.
#include <map>
#include <set>

#include "base/error.h"
#include "checkpoint/gguf_vocabulary.h"
#include "model/config_reader.h"
#include "model/model_sources.h"

namespace tsubu {
namespace {

std::vector<float> read_vector(const GgufTensor& tensor) {
  std::vector<float> values(tensor.n_elements());
  tensor.type->decode(tensor.data.data(), values.data(), values.size());
  return values;
}

class GgufModel : public Model {
 public:
  explicit GgufModel(const std::string& path) : file_(GgufFile::open(path)) {
    path_ = path;
    layout_ = "gguf";
    files_ = file_.paths();
    metadata_ = file_.metadata();
    choose_architecture();
    hparams_ = architecture_->hparams_from_gguf(metadata_, path_);
    complete_hparams();
    bind_tensors();
    if (!older_.empty()) architecture_->hparams_to_gguf(hparams_, metadata_);
    vocabulary_ = vocabulary_from_gguf(metadata_);
    graph_ = architecture_->graph(hparams_);
  }

 private:
  void choose_architecture() {
    const GgufValue* type = metadata_.find("general.type");
    if (type && type->as_string() && *type->as_string() != "model")
      fail(ExitCode::kUnsupported, "{}: this GGUF file holds no model but general.type \"{}\"", path_,
           *type->as_string());
    const GgufValue* value = metadata_.find("general.architecture");
    const std::string* name = value ? value->as_string() : nullptr;
    if (!name) fail(ExitCode::kBadInput, "{}: metadata general.architecture is missing: this is no model", path_);
    architecture_ = find_architecture(*name);
    if (!architecture_)
      fail(ExitCode::kUnsupported, "{}: architecture \"{}\" is not supported; supported: {}", path_, *name,
           supported_architectures());
    if (file_.tensors().empty())
      fail(ExitCode::kBadInput, "{}: no tensors: a file with the vocabulary only is no model", path_);
  }

  // What the metadata do not say but the tensors do.
  void complete_hparams() {
    const auto has = [&](std::string_view name) { return file_.find(name) != nullptr; };
    hparams_.tied_embeddings = !has("output.weight");
    hparams_.qkv_bias = has("blk.0.attn_q.bias") || has("blk.0.attn_qkv.bias");
    hparams_.attn_output_bias = has("blk.0.attn_output.bias");
    hparams_.mlp_bias = has("blk.0.ffn_up.bias") || has("blk.0.ffn_up_exps.bias");
    if (has(fmt::format("blk.{}.exp_probs_b.bias", hparams_.n_dense_layers))) hparams_.route.bias = "exp_probs_b";
    RopeScaling& rope = hparams_.rope_scaling;
    rope.frequency_factors = rope_factors("rope_freqs.weight");
    rope.short_factors = rope_factors("rope_factors_short.weight");
    rope.long_factors = rope_factors("rope_factors_long.weight");
    if (rope.short_factors.size() != rope.long_factors.size())
      fail(ExitCode::kBadInput, "{}: of the tensors rope_factors_short.weight and rope_factors_long.weight one is missing",
           path_);
    if (rope.kind == "longrope" && rope.long_factors.empty())
      fail(ExitCode::kBadInput, "{}: tensors rope_factors_short.weight and rope_factors_long.weight are missing: metadata "
           "{}.rope.scaling.type says longrope", path_, architecture_->name());
    if (!rope.long_factors.empty()) {
      if (rope.original_context == 0)
        fail(ExitCode::kBadInput, "{}: metadata {}.rope.scaling.original_context_length is missing", path_,
             architecture_->name());
      rope.kind = "longrope";
    }
    const GgufTensor* embedding = file_.find("token_embd.weight");
    if (!embedding || embedding->shape.size() != 2) return;  // reported when the tensors are bound
    if (hparams_.n_vocab == 0 && embedding->shape[0] <= kMaxVocab)
      hparams_.n_vocab = static_cast<uint32_t>(embedding->shape[0]);
    if (hparams_.n_vocab != embedding->shape[0])
      fail(ExitCode::kBadInput, "{}: the vocabulary has {} tokens, but token_embd.weight has {} rows", path_,
           hparams_.n_vocab, embedding->shape[0]);
  }

  // One positive factor for each rotated pair; empty when there is no such tensor.
  std::vector<float> rope_factors(const char* name) const {
    const GgufTensor* factors = file_.find(name);
    if (!factors) return {};
    if (hparams_.rope_dims == 0 || factors->n_elements() != hparams_.rope_dims / 2 || !factors->type->decode)
      fail(ExitCode::kBadInput, "{}: tensor {}: expected {} factors, found shape {}", path_, name,
           hparams_.rope_dims / 2, shape_text(factors->shape));
    std::vector<float> values = read_vector(*factors);
    for (float factor : values)
      if (!(factor > 0) || factor > 1e9f)
        fail(ExitCode::kBadInput, "{}: tensor {}: expected positive factors, found {}", path_, name, factor);
    return values;
  }

  void bind_tensors() {
    std::map<std::string, TensorSpec> wanted;
    for (TensorSpec& spec : architecture_->tensors(hparams_)) {
      const GgufTensor* tensor = file_.find(spec.name);
      if (!tensor && bind_older(spec)) continue;
      if (!tensor) {
        if (spec.optional) continue;
        fail(ExitCode::kBadInput, "{}: tensor {} is missing: architecture \"{}\" with {} layers needs it", path_,
             spec.name, architecture_->name(), hparams_.n_layers);
      }
      if (tensor->shape != spec.shape)
        fail(ExitCode::kBadInput, "{}@{:#x}: tensor {}: expected shape {}, found {}", path_, tensor->offset, spec.name,
             shape_text(spec.shape), shape_text(tensor->shape));
      if (!tensor->type->decode)
        fail(ExitCode::kUnsupported, "{}@{:#x}: tensor {}: type {} cannot be decoded", path_, tensor->offset, spec.name,
             tensor->type->name);
      std::string name = spec.name;
      wanted.emplace(std::move(name), std::move(spec));
    }
    std::vector<std::string> unknown;
    for (const GgufTensor& tensor : file_.tensors()) {
      const auto it = wanted.find(tensor.name);
      if (older_.contains(tensor.name)) continue;
      if (it == wanted.end()) {
        unknown.push_back(tensor.name);
        continue;
      }
      TensorSpec spec = std::move(it->second);
      spec.transform = HfTransform::kNone;
      spec.computed.clear();
      spec.hf_step = 1;
      bind(spec, *tensor.type, tensor.data);
    }
    warn_unknown_tensors(path_, architecture_->name(), unknown);
  }

  // Rows of a tensor that older files keep; false when there is none.
  bool bind_older(const TensorSpec& spec) {
    const GgufTensor* whole = spec.older_name.empty() ? nullptr : file_.find(spec.older_name);
    if (!whole) return false;
    const bool turned = spec.transform == HfTransform::kTransposeHead;
    const std::vector<uint64_t> expected = {spec.shape[0] * spec.head_rows, spec.shape[turned ? 1 : 2]};
    if (whole->shape != expected)
      fail(ExitCode::kBadInput, "{}@{:#x}: tensor {}: expected shape {}, found {}", path_, whole->offset, whole->name,
           shape_text(expected), shape_text(whole->shape));
    if (whole->type->block_len != 1 || !whole->type->decode)
      fail(ExitCode::kUnsupported,
           "{}@{:#x}: tensor {}: {} in the form of older files: expected F32, F16 or BF16 there, or {} as files have it now "
           "(convert the model anew)",
           path_, whole->offset, whole->name, whole->type->name, spec.name);
    bind_heads(spec, *whole->type, whole->data);
    older_.insert(whole->name);
    return true;
  }

  GgufFile file_;
  std::set<std::string> older_;  // tensors that were bound under names of today
};

}  // namespace

std::unique_ptr<Model> open_gguf_model(const std::string& path) { return std::make_unique<GgufModel>(path); }

}  // namespace tsubu
