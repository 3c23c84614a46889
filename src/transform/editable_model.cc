#include "transform/editable_model.h"

#include <algorithm>

#include "base/error.h"
#include "engine/linear.h"

namespace tsubu {
namespace {

constexpr uint64_t kRowsAtOnce = 16;
constexpr uint64_t kColumnsAtOnce = 16;  // a cache line of floats

}  // namespace

EditableModel::EditableModel(const Model& source, std::string folder) : folder_(std::move(folder)) {
  architecture_ = &source.architecture();
  hparams_ = source.hparams();
  tensors_ = source.tensors();
  graph_ = source.graph();
  vocabulary_ = source.vocabulary();
  metadata_ = source.gguf_metadata();
  path_ = source.path();
  layout_ = source.layout();
  files_ = source.files();
}

namespace {

std::span<float> as_floats(std::span<std::byte> bytes) {
  return {reinterpret_cast<float*>(bytes.data()), bytes.size() / sizeof(float)};
}

}  // namespace

std::span<float> EditableModel::allocate(const std::string& name, uint64_t n) {
  return as_floats(edited_.emplace(name, ScratchMemory(n * sizeof(float), folder_)).first->second.bytes());
}

std::span<float> EditableModel::floats(const std::string& name) {
  if (const auto it = edited_.find(name); it != edited_.end()) return as_floats(it->second.bytes());
  const ModelTensor& found = tensor(name);
  const std::span<float> values = allocate(name, found.n_elements());
  found.read_rows(0, found.n_rows(), values.data());
  TensorSpec spec = found.spec();
  spec.computed.clear();
  tensors_[static_cast<size_t>(&found - tensors_.data())] =
      ModelTensor(std::move(spec), type_named("F32"), std::as_bytes(values));
  return values;
}

void EditableModel::edit_rows(const std::string& name, ThreadPool& pool, const Change& change) {
  const std::span<float> values = floats(name);
  const uint64_t n_cols = tensor(name).n_cols(), n_rows = tensor(name).n_rows();
  std::vector<std::vector<double>> scratch(static_cast<size_t>(pool.size()), std::vector<double>(n_cols));
  pool.parallel_for((n_rows + kRowsAtOnce - 1) / kRowsAtOnce, [&](size_t item, int worker) {
    std::vector<double>& row = scratch[static_cast<size_t>(worker)];
    const uint64_t end = std::min(n_rows, (item + 1) * kRowsAtOnce);
    for (uint64_t r = item * kRowsAtOnce; r < end; ++r) {
      float* at = values.data() + r * n_cols;
      std::copy(at, at + n_cols, row.begin());
      change(r, row);
      std::transform(row.begin(), row.end(), at, [](double v) { return static_cast<float>(v); });
    }
  });
}

void EditableModel::edit_columns(const std::string& name, ThreadPool& pool, const Change& change) {
  const std::span<float> values = floats(name);
  const uint64_t n_cols = tensor(name).n_cols(), n_rows = tensor(name).n_rows();
  const uint64_t matrix_rows = n_rows / tensor(name).n_matrices();
  std::vector<std::vector<double>> scratch(static_cast<size_t>(pool.size()),
                                           std::vector<double>(n_rows * kColumnsAtOnce));
  pool.parallel_for((n_cols + kColumnsAtOnce - 1) / kColumnsAtOnce, [&](size_t item, int worker) {
    double* columns = scratch[static_cast<size_t>(worker)].data();  // column after column
    const uint64_t first = item * kColumnsAtOnce, n = std::min(kColumnsAtOnce, n_cols - first);
    for (uint64_t r = 0; r < n_rows; ++r)
      for (uint64_t c = 0; c < n; ++c) columns[c * n_rows + r] = static_cast<double>(values[r * n_cols + first + c]);
    for (uint64_t c = 0; c < n; ++c)
      for (uint64_t r = 0; r < n_rows; r += matrix_rows) change(first + c, {columns + c * n_rows + r, matrix_rows});
    for (uint64_t r = 0; r < n_rows; ++r)
      for (uint64_t c = 0; c < n; ++c) values[r * n_cols + first + c] = static_cast<float>(columns[c * n_rows + r]);
  });
}

bool EditableModel::untie_head() {
  if (graph_.ops.empty()) return false;
  const auto head = std::find_if(graph_.ops.begin(), graph_.ops.end(), [&](const Op& op) {
    return op.kind == OpKind::kLinear && op.output == graph_.logits;
  });
  if (head == graph_.ops.end() || find("output.weight")) return false;
  TensorSpec spec = tensor(head->weight).spec();
  spec.name = "output.weight";
  spec.role = Role::kOutput;
  const std::span<float> values = allocate(spec.name, tensor(head->weight).n_elements());
  tensor(head->weight).read_rows(0, tensor(head->weight).n_rows(), values.data());
  head->weight = spec.name;
  tensors_.emplace_back(std::move(spec), type_named("F32"), std::as_bytes(values));
  hparams_.tied_embeddings = false;
  return true;
}

std::vector<double> EditableModel::vector(const std::string& name) const {
  const std::vector<float> values = read_vector(tensor(name));
  return {values.begin(), values.end()};
}

}  // namespace tsubu
