// Rounding against the Gram matrices of a statistics file, of inputs and, where the effort wants it and the file has them, of
// output gradients: every matrix by itself, nothing runs.
#include <algorithm>
#include <optional>

#include "base/progress.h"
#include "pipeline/calibrated.h"
#include "pipeline/expert_grams.h"

namespace tsubu {

namespace {

constexpr uint64_t kSlabWeights = uint64_t{1} << 24;


// Experts that read what a dense linear reads, one after the other. False: these do not, or the file knows nothing of it.
bool round_experts_with(const Statistics& statistics, const Graph& graph, const PlannedTensor& p, const CalibratedOptions& options,
                        ThreadPool& pool, RoundedStore& store) {
  const ModelTensor& tensor = *p.tensor;
  const uint64_t n_experts = tensor.n_matrices(), n = tensor.n_cols(), bytes_each = p.size_bytes / n_experts;
  std::vector<std::byte> bytes(p.size_bytes);
  for (uint64_t e = 0; e < n_experts; ++e) {
    AlignedVector<float> gram = pooled_expert_gram(statistics, graph, tensor.name(), e);
    if (gram.size() != n * n) return false;
    const Curvature curvature(std::move(gram), n, 1, options.damping, pool);
    const ModelTensor matrix = tensor.matrix(e);
    const uint64_t rows = matrix.n_rows(), row_bytes = bytes_each / rows, slab = std::max<uint64_t>(64, kSlabWeights / n / 64 * 64);
    std::vector<float> w;
    for (uint64_t first = 0; first < rows; first += slab) {
      const uint64_t n_rows = std::min(slab, rows - first);
      w.resize(n_rows * n);
      matrix.read_rows(first, n_rows, w.data());
      round_rows(w.data(), n_rows, *p.type, curvature, options.round, bytes.data() + e * bytes_each + first * row_bytes, pool);
    }
  }
  store.put(tensor.name(), bytes, options.round.descent_passes > 0 ? "gptq+descent" : "gptq", 0, 0);
  return true;
}

}  // namespace

void round_with_statistics(const Model& model, const std::vector<PlannedTensor>& plan, const Statistics& statistics,
                           const CalibratedOptions& options, ThreadPool& pool, RoundedStore& store) {
  std::vector<const PlannedTensor*> todo;
  uint64_t total = 0;
  for (const PlannedTensor& p : plan) {
    const std::string& name = p.tensor->name();
    if (!p.type->is_quantized || !can_round(*p.type) || p.type == &p.tensor->type() || store.find(name)) continue;
    if (options.expert_feedback && p.tensor->n_matrices() > 1) (void)round_experts_with(statistics, model.graph(), p, options, pool, store);
    if (!statistics.has_gram(name) || statistics.n_cols(name) != p.tensor->n_cols()) continue;
    todo.push_back(&p);
    total += p.tensor->n_elements();
  }
  Progress progress("round", total, "w");
  std::optional<Curvature> curvature;
  std::string curvature_of;
  for (const PlannedTensor* p : todo) {
    const ModelTensor& tensor = *p->tensor;
    const std::string owner = statistics.sharing(tensor.name()).front();
    if (owner != curvature_of) {
      curvature.reset();
      curvature.emplace(statistics.gram(tensor.name()), tensor.n_cols(), statistics.n_tokens(tensor.name()),
                        options.damping, pool);
      curvature_of = owner;
    }
    const uint64_t rows = tensor.n_rows(), n = tensor.n_cols(), row_bytes = p->size_bytes / rows;
    const bool couples = options.fisher_tokens > 0 && statistics.has_output_gram(tensor.name());
    const uint64_t slab = couples ? statistics.output_block_rows() : std::max<uint64_t>(64, kSlabWeights / n / 64 * 64);
    std::vector<std::byte> bytes(p->size_bytes);
    std::vector<float> w;
    for (uint64_t first = 0; first < rows; first += slab) {
      const uint64_t n_rows = std::min(slab, rows - first);
      w.resize(n_rows * n);
      tensor.read_rows(first, n_rows, w.data());
      std::byte* out = bytes.data() + first * row_bytes;
      round_rows(w.data(), n_rows, *p->type, *curvature, options.round, out, pool);
      if (!couples) continue;
      AlignedVector<float> h_out = statistics.output_gram(tensor.name(), rows, first);
      damp_output_form(h_out, options.fisher_damping);
      refine_coupled(w.data(), n_rows, *p->type, *curvature, h_out, options.coupled, out, pool);
    }
    const std::string method = options.round.descent_passes > 0 ? "gptq+descent" : "gptq";
    store.put(tensor.name(), bytes, couples ? method + "+coupled" : method, 0, 0);
    progress.advance(tensor.n_elements(), tensor.name());
  }
  progress.finish();
}

}  // namespace tsubu
