// A model on disk, whatever its layout, seen in one way: tensors under their GGUF names and in GGUF's row order, by mmap.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/quant_matrix.h"
#include "codec/type_info.h"
#include "container/gguf.h"
#include "model/architecture.h"
#include "model/low_rank.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"

namespace tsubu {

class ModelTensor {
 public:
  ModelTensor() = default;
  // A tensor in memory, in GGUF's row order (spec.transform is ignored); bytes must outlive it.
  ModelTensor(TensorSpec spec, const TypeInfo& type, std::span<const std::byte> bytes);
  const TensorSpec& spec() const { return spec_; }
  const std::string& name() const { return spec_.name; }
  // As stored in the source; of a quantized matrix of a Hugging Face layout the float type that its values have.
  const TypeInfo& type() const { return *type_; }
  const QuantMatrix* quantized() const { return quantized_.get(); }  // nullptr: not in such a layout
  uint64_t n_rows() const { return spec_.shape.size() < 2 ? 1 : n_elements() / n_cols(); }
  uint64_t n_cols() const { return spec_.shape.back(); }
  uint64_t n_elements() const;
  uint64_t size_bytes() const;
  // A matrix for each expert: 1 unless the tensor has three dimensions.
  uint64_t n_matrices() const { return spec_.shape.size() < 3 ? 1 : n_rows() / spec_.shape[spec_.shape.size() - 2]; }
  // One of them, as a tensor of two dimensions of the same name; a view: this tensor must outlive it.
  ModelTensor matrix(uint64_t index) const;
  // The source bytes when they are the tensor as it is (no transform, no layout to unpack), else empty.
  std::span<const std::byte> raw() const;
  // Decodes rows [first, first + n) to out (n × n_cols), transforms applied. Thread-safe. Exact for F32/F16/BF16.
  void read_rows(uint64_t first, uint64_t n, float* out) const;
  // The same in the order of the source's rows: no rotary interleaving.
  void read_source_rows(uint64_t first, uint64_t n, float* out) const;
  // Rows whose source bytes are needed no more may leave memory (streaming).
  void release_rows(uint64_t first, uint64_t n) const;
  // This matrix with an addition, which may change between reads: no longer in any layout, of its own type where that is
  // F32, F16 or BF16, else F16. Of a stack (model/adapter.h) each matrix has a copy of its part. Error(kBadInput): shapes.
  ModelTensor with_low_rank(std::shared_ptr<const LowRank> addition) const;
  const LowRank* low_rank() const { return low_rank_.get(); }
  // The row here that is row `source_row` of the source's order, as the spec's transform says it.
  static uint64_t row_of_source(const TensorSpec& spec, uint64_t source_row);

 private:
  friend class Model;
  void read_quantized_rows(uint64_t first, uint64_t n, float* out) const;
  void read_parts(uint64_t first, uint64_t n, float* out, bool source_order) const;
  TensorSpec spec_;
  const TypeInfo* type_ = nullptr;
  std::span<const std::byte> data_;  // in the source's order
  std::shared_ptr<const QuantMatrix> quantized_;
  std::vector<ModelTensor> parts_;  // the matrices, where the source has them one by one; data_ is empty then
  std::shared_ptr<const ModelTensor> base_;   // with an addition: what it is added to; data_ is empty then
  std::shared_ptr<const LowRank> low_rank_;
};

class Model {
 public:
  // A GGUF file (any shard of a split one) or a Hugging Face directory (config.json + safetensors + tokenizer files).
  // Checks everything that the architecture declares: each tensor there, its shape, no unknown ones (a warning), the
  // vocabulary against the embedding. Throws Error(kBadInput / kUnsupported / kIo).
  static std::unique_ptr<Model> open(const std::string& path);
  virtual ~Model() = default;

  const Architecture& architecture() const { return *architecture_; }
  const Hparams& hparams() const { return hparams_; }
  const std::vector<ModelTensor>& tensors() const { return tensors_; }  // in the order a GGUF is written
  const ModelTensor* find(std::string_view name) const;
  const ModelTensor& tensor(std::string_view name) const;  // throws Error(kBadInput) when it is not there
  const Graph& graph() const { return graph_; }
  // Runs every expert for every token, for statistics (graph.h); the results stay what they are. Error(kUnsupported) when
  // the model has no experts.
  void route_all_experts();
  // From now on tensor `name` is with_low_rank(addition). References to it stay.
  void add_low_rank(std::string_view name, std::shared_ptr<const LowRank> addition);
  void add_adapter_files(std::span<const std::string> files) { adapter_files_.insert(adapter_files_.end(), files.begin(), files.end()); }
  const Vocabulary& vocabulary() const { return vocabulary_; }
  std::unique_ptr<Tokenizer> make_tokenizer() const { return Tokenizer::make(vocabulary_); }
  // Metadata for a GGUF of this model: the source's own when it is a GGUF, else made from config and tokenizer files.
  const GgufMetadata& gguf_metadata() const { return metadata_; }
  const std::string& path() const { return path_; }
  std::string_view layout() const { return layout_; }  // "gguf", "hf", or of a quantized one the layouts: "gptq"
  const std::vector<std::string>& files() const { return files_; }  // of weights
  const std::vector<std::string>& adapter_files() const { return adapter_files_; }  // of what was added to them
  uint64_t weight_bytes() const;
  uint64_t n_parameters() const;

 protected:
  Model() = default;
  void bind(const TensorSpec& spec, const TypeInfo& type, std::span<const std::byte> data);
  void bind(const TensorSpec& spec, std::shared_ptr<const QuantMatrix> matrix);
  // A tensor of three dimensions whose matrices are rows of a source of two (TensorSpec::head_rows).
  void bind_heads(const TensorSpec& spec, const TypeInfo& type, std::span<const std::byte> data);
  // A tensor of three dimensions from its matrices, each of which was bound; they are taken off the end of the list.
  void bind_stack(const TensorSpec& spec, size_t n_matrices);
  const Architecture* architecture_ = nullptr;
  Hparams hparams_;
  std::vector<ModelTensor> tensors_;
  Graph graph_;
  Vocabulary vocabulary_;
  GgufMetadata metadata_;
  std::string path_, layout_;
  std::vector<std::string> files_, adapter_files_;
};

// The one rule by which a tied head is found: "output.weight" when there, else "token_embd.weight".
std::string head_weight_name(const Model& model);

}  // namespace tsubu
