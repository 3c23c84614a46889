#include "pipeline/hf_tensors.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "pipeline/finite_weights.h"

namespace tsubu {
namespace {

constexpr uint64_t kReadRows = 64;

// Where the row of Hugging Face lies among interleaved ones.
uint64_t interleaved_row(uint64_t row, uint64_t head_dim) {
  const uint64_t head = row / head_dim, at = row % head_dim, half = head_dim / 2;
  return head * head_dim + (at < half ? 2 * at : 2 * (at - half) + 1);
}

// Where a row (head, one of q k v, dimension) of Hugging Face lies among rows (one of q k v, head, dimension).
uint64_t split_row(uint64_t row, uint64_t head_dim, uint64_t n_heads) {
  const uint64_t head = row / (3 * head_dim), part = row / head_dim % 3;
  return (part * n_heads + head) * head_dim + row % head_dim;
}

}  // namespace

std::string hf_module(const std::string& hf_name) { return hf_name.substr(0, hf_name.rfind('.')); }

std::vector<std::string> hf_modules(const TensorSpec& spec) {
  if (spec.hf_parts.empty()) return {hf_module(spec.hf_name)};
  std::vector<std::string> modules;
  for (const std::string& name : spec.hf_parts) modules.push_back(hf_module(name));
  return modules;
}

std::vector<HfTensor> hf_tensors(const Model& model) {
  const std::vector<TensorSpec> all = model.architecture().tensors(model.hparams());
  std::map<std::string_view, const TensorSpec*> spec_of;
  for (const TensorSpec& spec : all) spec_of[spec.name] = &spec;
  std::vector<HfTensor> list;
  std::map<std::string_view, size_t> stack_of;  // by Hugging Face's name
  for (const ModelTensor& t : model.tensors()) {
    const auto found = spec_of.find(t.name());
    if (found == spec_of.end()) continue;
    const TensorSpec& spec = *found->second;
    for (size_t e = 0; e < spec.hf_parts.size(); ++e) {
      HfTensor one{spec, {&t}, e, false};
      one.spec.hf_name = spec.hf_parts[e];
      one.spec.hf_parts.clear();
      one.spec.shape.erase(one.spec.shape.begin());
      list.push_back(std::move(one));
    }
    if (spec.hf_name.empty()) continue;
    if (spec.shape.size() < 3 && spec.hf_step == 1) {
      list.push_back({spec, {&t}, {}, false});
      continue;
    }
    const auto [at, is_new] = stack_of.emplace(spec.hf_name, list.size());
    // Keys and values of a head: the keys' rows come first.
    const size_t n_sources = spec.head_rows > 0 ? 2 : spec.hf_step;
    if (is_new) list.push_back({spec, std::vector<const ModelTensor*>(n_sources), {}, true});
    list[at->second].sources[spec.head_rows > 0 ? (spec.head_first > 0 ? 1 : 0) : spec.hf_first] = &t;
  }
  for (const HfTensor& tensor : list)
    for (const ModelTensor* source : tensor.sources)
      if (!source) fail(ExitCode::kBadInput, "{}: of the tensors that make {} one is missing", model.path(), tensor.spec.hf_name);
  return list;
}

std::vector<float> read_hf_rows(const ModelTensor& t, const TensorSpec& spec, ThreadPool& pool) {
  const uint64_t rows = t.n_rows(), n = t.n_cols();
  std::vector<float> w(rows * n);
  pool.parallel_for((rows + kReadRows - 1) / kReadRows, [&](size_t item, int) {
    const uint64_t first = item * kReadRows;
    t.read_rows(first, std::min(kReadRows, rows - first), w.data() + first * n);
  });
  check_finite_weights(w.data(), rows, n, spec.hf_name);
  if (spec.transform == HfTransform::kAddOne)
    for (float& v : w) v -= 1;
  const bool is_split = spec.transform == HfTransform::kSplitHeads;
  if (spec.transform != HfTransform::kRopeInterleave && !is_split) return w;
  const uint64_t width = spec.shape.size() < 2 ? 1 : n, count = w.size() / width;
  const uint64_t head_dim = count / spec.n_heads / (is_split ? 3 : 1);
  std::vector<float> ordered(w.size());
  for (uint64_t row = 0; row < count; ++row) {
    const uint64_t from = is_split ? split_row(row, head_dim, spec.n_heads) : interleaved_row(row, head_dim);
    std::copy_n(w.data() + from * width, width, ordered.data() + row * width);
  }
  return ordered;
}

}  // namespace tsubu
