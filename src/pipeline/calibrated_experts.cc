#include "pipeline/calibrated_experts.h"

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "base/progress.h"
#include "kernel/kernels.h"

namespace tsubu {
namespace {

constexpr uint64_t kSlabWeights = uint64_t{1} << 22;  // of a matrix in memory as floats
constexpr uint64_t kReadRows = 96;
// Held-out errors of matrices of many rows are taken from every fourth group of kReadRows rows.
constexpr uint64_t kManyRows = 1024, kJudgedOneIn = 4;

// One expert's matrix of one tensor.
class ExpertMatrix {
 public:
  ExpertMatrix(const PlannedTensor& plan, size_t expert, const CalibratedOptions& options, ThreadPool& pool)
      : plan_(plan), type_(*plan.type), expert_(expert), options_(options), pool_(pool), matrix_(plan.tensor->matrix(expert)) {}

  // bytes: the encoded rows of this expert.
  void round(const ExpertGram* gram, const Curvature* curvature, const std::vector<float>& mean_squares,
             std::byte* bytes, double held_share, RoundedExperts& result) {
    const uint64_t rows = matrix_.n_rows(), n = matrix_.n_cols(), row_bytes = tensor_bytes(type_, rows, n) / rows;
    const bool has_method = curvature && can_round(type_);
    const bool judges = has_method && !gram->held.empty();
    const uint64_t slab = std::max<uint64_t>(kReadRows, kSlabWeights / n / kReadRows * kReadRows);
    const float* importance = has_method ? curvature->diagonal().data() : mean_squares.data();
    std::vector<std::byte> plain(judges ? rows * row_bytes : 0);
    double method_error = 0, search_error = 0;
    std::vector<float> w;
    for (uint64_t first = 0; first < rows; first += slab) {
      const uint64_t n_rows = std::min(slab, rows - first);
      read(first, n_rows, w);
      std::byte* out = bytes + first * row_bytes;
      if (!has_method) {
        search(w, n_rows, importance, out);
        continue;
      }
      if (options_.start) {
        const uint64_t at = (expert_ * rows + first) * row_bytes;
        const auto start = options_.start->tensor(plan_.tensor->name()).raw().subspan(at, n_rows * row_bytes);
        std::copy(start.begin(), start.end(), out);
        refine_rows(w.data(), n_rows, type_, *curvature, options_.round, out, pool_);
      } else {
        round_rows(w.data(), n_rows, type_, *curvature, options_.round, out, pool_);
      }
      if (!judges) continue;
      search(w, n_rows, importance, plain.data() + first * row_bytes);
      method_error += judge(w, out, n_rows, row_bytes, gram->held);
      search_error += judge(w, plain.data() + first * row_bytes, n_rows, row_bytes, gram->held);
    }
    const bool keeps = has_method && !(judges && method_error > search_error);
    if (has_method && !keeps) std::copy(plain.begin(), plain.end(), bytes);
    (keeps ? result.n_methods : result.n_searched) += 1;
    result.error += held_share * (keeps ? method_error : search_error);
    result.search_error += held_share * search_error;
  }

 private:
  void read(uint64_t first, uint64_t n_rows, std::vector<float>& w) {
    const uint64_t n = matrix_.n_cols();
    w.resize(n_rows * n);
    pool_.parallel_for((n_rows + kReadRows - 1) / kReadRows, [&](size_t item, int) {
      const uint64_t r = item * kReadRows;
      matrix_.read_rows(first + r, std::min(kReadRows, n_rows - r), w.data() + r * n);
    });
  }

  void search(const std::vector<float>& w, uint64_t n_rows, const float* importance, std::byte* out) {
    const uint64_t n = matrix_.n_cols(), row_bytes = n / type_.block_len * type_.block_bytes;
    pool_.parallel_for(n_rows, [&](size_t r, int) {
      kernels().encode[type_.index](w.data() + r * n, importance, out + r * row_bytes, n);
    });
  }

  double judge(const std::vector<float>& w, const std::byte* encoded, uint64_t n_rows, uint64_t row_bytes,
               const AlignedVector<float>& held) {
    const uint64_t n = matrix_.n_cols(), step = matrix_.n_rows() >= kManyRows ? kJudgedOneIn * kReadRows : kReadRows;
    if (step == kReadRows) return form_error(w.data(), encoded, n_rows, type_, held.data(), n, pool_);
    std::vector<float> some;
    std::vector<std::byte> blocks;
    for (uint64_t r = 0; r < n_rows; r += step) {
      const uint64_t end = std::min(n_rows, r + kReadRows);
      some.insert(some.end(), w.data() + r * n, w.data() + end * n);
      blocks.insert(blocks.end(), encoded + r * row_bytes, encoded + end * row_bytes);
    }
    return form_error(some.data(), blocks.data(), some.size() / n, type_, held.data(), n, pool_);
  }

  const PlannedTensor& plan_;
  const TypeInfo& type_;
  size_t expert_;
  const CalibratedOptions& options_;
  ThreadPool& pool_;
  ModelTensor matrix_;
};

}  // namespace

std::vector<RoundedExperts> round_experts(const std::vector<const PlannedTensor*>& tensors, ExpertGrams& grams,
                                          const CalibratedOptions& options, const std::string& method, ThreadPool& pool) {
  std::vector<RoundedExperts> rounded(tensors.size());
  for (size_t t = 0; t < tensors.size(); ++t) rounded[t].bytes.resize(tensors[t]->size_bytes);
  const bool any_method = options.expert_feedback && grams.fits() && std::any_of(tensors.begin(), tensors.end(),
                                                      [](const PlannedTensor* p) { return can_round(*p->type); });
  const uint64_t n_experts = tensors.front()->tensor->n_matrices();
  for (uint64_t e = 0; e < n_experts; ++e) {
    throw_if_interrupted();
    std::optional<ExpertGram> gram;
    std::optional<Curvature> curvature;
    if (any_method) gram = grams.take(e);
    if (gram && !gram->learned.empty())
      curvature.emplace(std::move(gram->learned), grams.n_cols(), 1, options.damping, pool);
    const double held_share =
        gram && grams.n_held() > 0 ? static_cast<double>(gram->n_held) / static_cast<double>(grams.n_held()) : 0;
    const std::vector<float> mean_squares = grams.mean_squares(e);
    for (size_t t = 0; t < tensors.size(); ++t) {
      const uint64_t bytes = tensors[t]->size_bytes / n_experts;
      rounded[t].n_unseen += grams.n_tokens(e) == 0;
      ExpertMatrix(*tensors[t], e, options, pool)
          .round(gram ? &*gram : nullptr, curvature ? &*curvature : nullptr, mean_squares,
                 rounded[t].bytes.data() + e * bytes, held_share, rounded[t]);
    }
  }
  for (RoundedExperts& r : rounded) r.method = r.n_methods > 0 ? method : "search";
  return rounded;
}

void note_experts(const std::string& name, const RoundedExperts& rounded, std::vector<std::string>& notes) {
  const size_t n = rounded.n_methods + rounded.n_searched;
  if (rounded.n_methods > 0 && rounded.n_searched > 0)
    notes.push_back(fmt::format("{}: {} of {} matrices by plain search, which is better on the held-out text or all that no "
                                "token allows",
                                name, rounded.n_searched, n));
  if (rounded.n_unseen > 0)
    notes.push_back(fmt::format("{}: {} of {} experts got no token of the text", name, rounded.n_unseen, n));
}

}  // namespace tsubu
