#include "calibrate/collector.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "base/error.h"
#include "base/file.h"

namespace tsubu {
namespace {

template <class T>
void write_values(AtomicFile& file, std::span<const T> values) {
  file.write(std::as_bytes(values));
}

// Reads values one after another from a saved file.
struct Reader {
  std::span<const std::byte> rest;
  const std::string& path;

  template <class T>
  std::vector<T> take(size_t n) {
    if (rest.size() / sizeof(T) < n)
      fail(ExitCode::kBadInput, "{}: work in progress of another kind (remove it to start anew)", path);
    std::vector<T> values(n);
    std::memcpy(values.data(), rest.data(), n * sizeof(T));
    rest = rest.subspan(n * sizeof(T));
    return values;
  }
};

}  // namespace

std::vector<StatisticsInput> statistics_inputs(const Model& model, size_t n_blocks, bool with_head) {
  const Graph& graph = model.graph();
  std::map<std::string, const Op*> op_of;
  for (const Op& op : graph.ops)
    if (op.kind == OpKind::kLinear) op_of.emplace(op.weight, &op);
  std::vector<StatisticsInput> inputs;
  for (const LinearGroup& group : linear_groups(graph)) {
    const bool is_head = op_of.at(group.linears.front())->output == graph.logits;
    if (is_head && !with_head) continue;
    StatisticsInput input;
    input.first_weight = group.linears.front();
    input.linears = is_head ? std::vector<std::string>{"output.weight"} : group.linears;
    input.n_cols = graph.widths[static_cast<size_t>(group.input)];
    input.block = group.layer < 0 ? n_blocks : static_cast<size_t>(group.layer);
    inputs.push_back(std::move(input));
  }
  for (const ExpertGroup& group : expert_groups(graph))
    inputs.push_back({group.linears, group.linears.front(), group.n_cols, static_cast<size_t>(group.layer),
                      group.n_experts});
  // Block by block, in each the order of the graph; experts are the last of theirs.
  std::stable_sort(inputs.begin(), inputs.end(),
                   [](const StatisticsInput& a, const StatisticsInput& b) { return a.block < b.block; });
  return inputs;
}

Collector::Collector(std::vector<StatisticsInput> inputs, ThreadPool& pool)
    : inputs_(std::move(inputs)), pool_(pool), scratch_(std::make_shared<GramScratch>()) {
  for (const StatisticsInput& input : inputs_)
    moments_.emplace_back(input.n_matrices(), ColumnMoments(input.n_cols));
  grams_.resize(inputs_.size());
}

void Collector::select(size_t first, size_t last, bool gram) {
  first_ = next_ = first;
  last_ = last;
  for (auto& g : grams_) g.reset();
  for (size_t i = first; gram && i < last; ++i)
    if (inputs_[i].n_experts == 0)
      grams_[i] = std::make_unique<GramAccumulator>(inputs_[i].n_cols, inputs_[i].n_cols, true, scratch_);
}

size_t Collector::find(const std::string& weight) {
  // Inputs come in graph order, over and over.
  for (size_t tried = 0; tried < last_ - first_; ++tried) {
    const size_t i = next_ + tried < last_ ? next_ + tried : next_ + tried - (last_ - first_);
    if (inputs_[i].first_weight != weight) continue;
    next_ = i + 1 < last_ ? i + 1 : first_;
    return i;
  }
  return inputs_.size();
}

void Collector::on_linear_input(const Op& op, const float* x, size_t n_tokens, size_t n_cols) {
  const size_t i = find(op.weight);
  if (i == inputs_.size()) return;
  moments_[i][0].add(x, n_cols, n_tokens, pool_);
  if (grams_[i]) grams_[i]->add(x, n_cols, n_tokens, pool_);
}

void Collector::on_expert_input(const Op& op, size_t expert, const float* x, size_t n_tokens, size_t n_cols) {
  const size_t i = find(op.weight);
  if (i == inputs_.size()) return;
  next_ = i;  // the other experts come next
  if (n_tokens > 0) moments_[i][expert].add(x, n_cols, n_tokens, pool_);
}

void Collector::check_finite(const std::string& what) const {
  for (size_t i = first_; i < last_; ++i)
    for (const ColumnMoments& m : moments_[i])
      for (double v : m.squares())
        if (!std::isfinite(v))
          fail(ExitCode::kNumeric,
               "{}: the input of {} is not finite: the model is damaged, or its activations overflow", what,
               inputs_[i].linears.front());
}

void Collector::save(const std::string& path) const {
  AtomicFile file(path);
  for (const auto& matrices : moments_)
    for (const ColumnMoments& m : matrices) {
      const uint64_t n = m.n_tokens();
      write_values(file, std::span(&n, 1));
      write_values(file, m.sum());
      write_values(file, m.squares());
      write_values(file, m.max_abs());
    }
  for (size_t i = first_; i < last_; ++i)
    if (grams_[i]) write_values(file, grams_[i]->sums());
  file.commit();
}

void Collector::load(const std::string& path) {
  const MappedFile file(path);
  Reader in{file.bytes(), path};
  for (auto& matrices : moments_)
    for (ColumnMoments& m : matrices) {
      const uint64_t n = in.take<uint64_t>(1)[0];
      const auto sum = in.take<double>(m.n_cols()), squares = in.take<double>(m.n_cols());
      m.restore(sum, squares, in.take<float>(m.n_cols()), n);
    }
  for (size_t i = first_; i < last_; ++i)
    if (grams_[i]) grams_[i]->restore(in.take<double>(grams_[i]->sums().size()), moments_[i][0].n_tokens());
  if (!in.rest.empty())
    fail(ExitCode::kBadInput, "{}: work in progress of another kind (remove it to start anew)", path);
}

}  // namespace tsubu
