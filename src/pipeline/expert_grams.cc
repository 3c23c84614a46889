#include "pipeline/expert_grams.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "base/error.h"
#include "engine/expert_linear.h"

namespace tsubu {
namespace {

// Over mean squares; columns that were never active count nothing.
std::vector<float> metric_of(std::span<const float> mean_squares) {
  std::vector<float> metric;
  for (float v : mean_squares) metric.push_back(v > 0 ? 1 / v : 0);
  for (float& v : metric)
    if (!std::isfinite(v)) v = 0;
  return metric;
}

AlignedVector<float> mean_of(GramAccumulator& gram, ThreadPool& pool) {
  gram.flush(pool);
  AlignedVector<float> mean(gram.n() * gram.n());
  gram.finish(mean);
  const float per_token = 1.0f / static_cast<float>(gram.n_tokens());
  for (float& v : mean) v *= per_token;
  return mean;
}

}  // namespace

// A Gram matrix; tokens are added in whole chunks of the accumulator, whoever brings them.
struct ExpertGrams::Sums {
  GramAccumulator gram;
  TokenSpread spread;
  std::vector<float> waiting;

  Sums(size_t n, Products products, const std::shared_ptr<GramScratch>& scratch) : gram(n, n, true, scratch, products) {}
  void add(std::span<const float> rows, std::span<const float> metric, ThreadPool& pool) {
    const size_t chunk = kGramChunk * gram.n();
    while (!rows.empty()) {
      const size_t n = std::min(rows.size(), chunk - waiting.size());
      waiting.insert(waiting.end(), rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(n));
      rows = rows.subspan(n);
      if (waiting.size() == chunk) flush(metric, pool);
    }
  }
  void flush(std::span<const float> metric, ThreadPool& pool) {
    const size_t n = gram.n(), n_rows = waiting.size() / n;
    if (n_rows == 0) return;
    gram.add(waiting.data(), n, n_rows, pool);
    std::vector<TokenSpread> spreads(metric.empty() ? 0 : n_rows);
    pool.parallel_for(spreads.size(), [&](size_t r, int) { spreads[r].add(waiting.data() + r * n, metric); });
    for (const TokenSpread& s : spreads) {
      spread.n_tokens += s.n_tokens;
      spread.whole += s.whole;
      spread.diagonal += s.diagonal;
    }
    waiting.clear();
  }
};

struct ExpertGrams::Expert {
  std::vector<float> metric;
  Sums learned;
  std::optional<Sums> held;
};

ExpertInput expert_input(const Graph& graph, const Op& op) {
  ExpertInput input;
  input.op = &op;
  const size_t width = graph.widths[static_cast<size_t>(op.inputs[0])];
  input.n_cols = op.by_slots ? width / op.n_used : width;
  return input;
}

ExpertGrams::ExpertGrams(ExpertInput input, const ExpertGramOptions& options, ThreadPool& pool)
    : input_(std::move(input)),
      options_(options),
      pool_(pool),
      scratch_(std::make_shared<GramScratch>()),
      moments_(input_.op->n_experts, ColumnMoments(input_.n_cols)) {
  look_once();
}

ExpertGrams::~ExpertGrams() = default;

uint64_t ExpertGrams::sum_bytes() const {
  const uint64_t bytes = GramAccumulator::size_bytes(input_.n_cols, input_.n_cols, true);
  return options_.products == Products::kBf16 ? bytes / 2 : bytes;
}

uint64_t ExpertGrams::least_bytes() const {
  const uint64_t n_parts = input_.held_period > 0 ? 2 : 1, n = input_.n_cols;
  return n_parts * (sum_bytes() + (input_.op->by_slots ? 0 : n * n * sizeof(float)));
}

size_t ExpertGrams::experts_at_once() const {
  const uint64_t n_parts = input_.held_period > 0 ? 2 : 1, each = n_parts * sum_bytes();
  const uint64_t shared = least_bytes() - each;
  return std::clamp<uint64_t>((options_.memory - shared) / each, 1, input_.op->n_experts);
}

bool ExpertGrams::is_held(size_t chunk) const {
  return input_.held_period > 0 && chunk % input_.held_period == input_.held_period - 1;
}

// Rows (tokens, n_cols) of each of the experts [first, last) that a chunk gives it, times their weights.
void ExpertGrams::visit(size_t first, size_t last,
                        const std::function<void(size_t expert, bool held, std::span<const float> rows)>& see) {
  const Op& op = *input_.op;
  const size_t n = input_.n_cols, n_used = op.n_used, width = op.by_slots ? n * n_used : n;
  std::vector<float> rows;
  for (size_t chunk = 0; chunk < input_.n_chunks; ++chunk) {
    const ExpertInput::Values values = input_.read(chunk);
    const auto slots = slots_by_expert(values.route, input_.n_tokens, n_used, op.n_experts);
    for (size_t e = first; e < last; ++e) {
      if (slots[e].empty()) continue;
      rows.resize(slots[e].size() * n);
      constexpr size_t kTokens = 8;
      pool_.parallel_for((slots[e].size() + kTokens - 1) / kTokens, [&](size_t item, int) {
        for (size_t i = item * kTokens; i < std::min(slots[e].size(), (item + 1) * kTokens); ++i) {
          const auto [token, slot] = slots[e][i];
          const float weight = options_.weighted ? values.route[token * 2 * n_used + n_used + slot] : 1;
          const float* x = values.x + token * width + (op.by_slots ? slot * n : 0);
          for (size_t c = 0; c < n; ++c) rows[i * n + c] = weight * x[c];
        }
      });
      see(e, is_held(chunk), rows);
    }
  }
}

void ExpertGrams::look_once() {
  const size_t n = input_.n_cols;
  const bool pools = !input_.op->by_slots && fits();
  std::optional<Sums> learned, held;
  if (pools) learned.emplace(n, options_.products, scratch_);
  if (pools && input_.held_period > 0) held.emplace(n, options_.products, scratch_);
  visit(0, input_.op->n_experts, [&](size_t e, bool is_held_out, std::span<const float> rows) {
    (is_held_out ? n_held_ : n_learned_) += rows.size() / n;
    if (!is_held_out) moments_[e].add(rows.data(), n, rows.size() / n, pool_);
    if (pools) (is_held_out ? *held : *learned).add(rows, {}, pool_);
  });
  for (const ColumnMoments& m : moments_)
    for (double v : m.squares())
      if (!std::isfinite(v))
        fail(ExitCode::kNumeric, "the input of {} is not finite: the model is damaged, or its activations overflow",
             input_.op->weight);
  const auto mean = [&](std::optional<Sums>& sums) {
    if (!sums) return AlignedVector<float>();
    sums->flush({}, pool_);
    return sums->gram.n_tokens() > 0 ? mean_of(sums->gram, pool_) : AlignedVector<float>();
  };
  pooled_ = mean(learned);
  learned.reset();
  pooled_held_ = mean(held);
  if (pooled_.empty()) return;
  std::vector<float> diagonal;
  for (size_t i = 0; i < n; ++i) diagonal.push_back(pooled_[i * n + i]);
  metric_ = metric_of(diagonal);
}

std::vector<float> ExpertGrams::mean_squares(size_t expert) const {
  const ColumnMoments& m = moments_[expert];
  if (m.n_tokens() == 0) return std::vector<float>(input_.n_cols, 1.0f);
  std::vector<float> means;
  for (double v : m.squares()) means.push_back(static_cast<float>(v / static_cast<double>(m.n_tokens())));
  return means;
}

uint64_t ExpertGrams::n_tokens(size_t expert) const { return moments_[expert].n_tokens(); }

void ExpertGrams::sum_up(size_t first) {
  experts_.clear();
  first_ = first;
  last_ = std::min<size_t>(input_.op->n_experts, first + experts_at_once());
  for (size_t e = first_; e < last_; ++e) {
    experts_.push_back(std::make_unique<Expert>(
        Expert{metric_.empty() ? metric_of(mean_squares(e)) : metric_, Sums(input_.n_cols, options_.products, scratch_), {}}));
    if (input_.held_period > 0) experts_.back()->held.emplace(input_.n_cols, options_.products, scratch_);
  }
  visit(first_, last_, [&](size_t e, bool is_held_out, std::span<const float> rows) {
    Expert& expert = *experts_[e - first_];
    (is_held_out ? *expert.held : expert.learned).add(rows, expert.metric, pool_);
  });
}

// The sums' mean, shrunk; their memory is freed. Empty where there is nothing to say.
AlignedVector<float> ExpertGrams::shrunk(Sums& sums, std::span<const float> pooled, uint64_t pool_tokens,
                                         std::span<const float> metric, double& share) {
  const size_t n = input_.n_cols;
  sums.flush(metric, pool_);
  const uint64_t n_tokens = sums.spread.n_tokens;
  if (n_tokens == 0 && pooled.empty()) return {};
  AlignedVector<float> mean = n_tokens > 0 ? mean_of(sums.gram, pool_) : AlignedVector<float>(n * n);
  if (input_.op->by_slots) {
    share = shrink_to_diagonal(mean, sums.spread, metric, pool_);
  } else if (!pooled.empty()) {
    const double own = pool_tokens > 0 ? static_cast<double>(n_tokens) / static_cast<double>(pool_tokens) : 0;
    share = shrink_to_pool(mean, sums.spread, metric, pooled, own, pool_);
  }
  return mean;
}

ExpertGram ExpertGrams::take(size_t expert) {
  if (expert >= last_) sum_up(expert);
  Expert& sums = *experts_[expert - first_];
  ExpertGram result;
  result.learned = shrunk(sums.learned, pooled_, n_learned_, sums.metric, result.shrinkage);
  result.n_tokens = sums.learned.spread.n_tokens;
  if (sums.held) {
    double ignored = 1;
    result.held = shrunk(*sums.held, pooled_held_, n_held_, sums.metric, ignored);
    result.n_held = sums.held->spread.n_tokens;
  }
  experts_[expert - first_].reset();
  return result;
}

AlignedVector<float> pooled_expert_gram(const Statistics& statistics, const Graph& graph, const std::string& weight, uint64_t expert) {
  const auto op = std::find_if(graph.ops.begin(), graph.ops.end(),
                               [&](const Op& o) { return o.kind == OpKind::kExpertLinear && o.weight == weight; });
  if (op == graph.ops.end() || op->by_slots || !statistics.has(weight)) return {};
  for (const Op& dense : graph.ops) {
    if (dense.kind != OpKind::kLinear || dense.inputs[0] != op->inputs[0] || !statistics.has_gram(dense.weight)) continue;
    const std::vector<float> squares = statistics.mean_squares(weight);
    const size_t n = statistics.n_cols(dense.weight);
    if (squares.size() != op->n_experts * n) return {};
    const std::vector<float> whole = statistics.gram(dense.weight);
    AlignedVector<float> gram(whole.begin(), whole.end());
    const auto own = std::span(squares).subspan(expert * n, n);
    if (std::all_of(own.begin(), own.end(), [](float v) { return v == 1; })) return gram;  // of no token: the pool as it is
    std::vector<float> factor(n);  // of a column
    for (size_t i = 0; i < n; ++i) {
      const float pooled = gram[i * n + i];
      factor[i] = pooled > 0 ? std::sqrt(own[i] / pooled) : 0;
    }
    for (size_t i = 0; i < n; ++i)
      for (size_t j = 0; j < n; ++j) gram[i * n + j] *= factor[i] * factor[j];
    return gram;
  }
  return {};
}

}  // namespace tsubu
