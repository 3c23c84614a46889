#include "calibrate/fisher.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "gradient/loss.h"

namespace tsubu {
namespace {

constexpr size_t kLeastRows = 16;

// f(weight, rows) for every linear but the head, each weight once.
template <class Fn>
void each_linear(const Graph& graph, Fn f) {
  std::set<std::string> seen;
  for (const Op& op : graph.ops)
    if (op.kind == OpKind::kLinear && op.output != graph.logits && seen.insert(op.weight).second)
      f(op.weight, size_t{graph.widths[static_cast<size_t>(op.output)]});
}

}  // namespace

FisherSums::FisherSums(const Graph& graph, size_t block_rows, ThreadPool& pool) : pool_(pool), block_rows_(block_rows) {
  const auto scratch = std::make_shared<GramScratch>();
  each_linear(graph, [&](const std::string& weight, size_t rows) {
    for (size_t first = 0; first < rows; first += block_rows_) {
      const size_t n = std::min(block_rows_, rows - first);
      sums_[weight].emplace_back(n, n, true, scratch);
    }
  });
}

void FisherSums::on_linear(const Op& op, const float*, const float* g, size_t n_tokens, size_t, size_t n_rows) {
  const auto found = sums_.find(op.weight);
  if (found == sums_.end()) return;
  for (size_t b = 0; b < found->second.size(); ++b) found->second[b].add(g + b * block_rows_, n_rows, n_tokens, pool_);
  if (found == sums_.begin()) n_tokens_ += n_tokens;
  ++n_additions_;
}

AlignedVector<float> FisherSums::block(const std::string& weight, size_t first_row) const {
  const auto& blocks = sums_.at(weight);
  if (first_row % block_rows_ != 0 || first_row / block_rows_ >= blocks.size())
    fail(ExitCode::kUsage, "{}: no block of output gradients begins at row {}", weight, first_row);
  const GramAccumulator& sum = blocks[first_row / block_rows_];
  AlignedVector<float> h(sum.n() * sum.n());
  sum.finish(h);
  const float per_token = 1.0f / static_cast<float>(std::max<uint64_t>(1, sum.n_tokens()));
  for (float& v : h) v *= per_token;
  return h;
}

void FisherSums::save(const std::string& path) const {
  AtomicFile file(path);
  file.write(std::as_bytes(std::span(&n_tokens_, 1)));
  for (const auto& [name, blocks] : sums_)
    for (const GramAccumulator& block : blocks) file.write(std::as_bytes(block.sums()));
  file.commit();
}

void FisherSums::load(const std::string& path) {
  const MappedFile file(path);
  std::span<const std::byte> rest = file.bytes();
  const auto take = [&](void* to, size_t n_bytes) {
    if (rest.size() < n_bytes) fail(ExitCode::kBadInput, "{}: work in progress of another kind (remove it to start anew)", path);
    std::memcpy(to, rest.data(), n_bytes);
    rest = rest.subspan(n_bytes);
  };
  take(&n_tokens_, sizeof n_tokens_);
  std::vector<double> sums;
  for (auto& [name, blocks] : sums_)
    for (GramAccumulator& block : blocks) {
      sums.resize(block.sums().size());
      take(sums.data(), sums.size() * sizeof(double));
      block.restore(sums, n_tokens_);
    }
  if (!rest.empty()) fail(ExitCode::kBadInput, "{}: work in progress of another kind (remove it to start anew)", path);
}

size_t fisher_block_rows(const Graph& graph, size_t most, size_t n_sums, uint64_t memory) {
  for (size_t rows = most; rows > kLeastRows; rows /= 2) {
    uint64_t bytes = 0;
    each_linear(graph, [&](const std::string&, size_t n) {
      for (size_t first = 0; first < n; first += rows) {
        const size_t block = std::min(rows, n - first);
        bytes += GramAccumulator::size_bytes(block, block, true);
      }
    });
    if (n_sums * bytes <= memory) return rows;
  }
  return kLeastRows;
}

void add_fisher_window(Backward& backward, const std::vector<TokenId>& tokens, uint64_t seed, uint64_t window,
                       FisherSums& sums, ThreadPool& pool) {
  const size_t n_vocab = backward.n_vocab();
  backward.run(
      tokens, 0,
      [&](size_t first, size_t n, float* logits) {
        const auto targets = sample_targets(logits, n, n_vocab, seed, window, first, pool);
        return cross_entropy(targets, 1, logits, n_vocab, pool);
      },
      sums);
}

}  // namespace tsubu
