#include "lens/gradient_sensitivity.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <set>

#include "base/error.h"
#include "base/progress.h"
#include "gradient/backward.h"
#include "gradient/loss.h"
#include "kernel/kernels.h"
#include "lens/harm.h"

namespace tsubu {
namespace {

constexpr size_t kRows = 64;                              // of one item of work
constexpr uint64_t kKeptValues = uint64_t{1} << 30;       // bytes of a window's values that stay between the two passes

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// The gradients of one window after the other: their squares (drawn labels) or themselves (the text's).
class WindowGradients : public GradientSink {
 public:
  enum class Mode { kSquares, kSum };

  WindowGradients(const Model& model, const GradientOptions& options, ThreadPool& pool) : pool_(pool) {
    std::map<std::string, size_t> n_uses;
    for (const Op& op : model.graph().ops)
      if (!op.weight.empty()) ++n_uses[op.weight];
    for (const ModelTensor* tensor : sensitive_tensors(model)) {
      Sum sum;
      sum.tensor = tensor;
      const uint64_t rows = tensor->n_rows(), n = tensor->n_cols();
      sum.squares.resize(rows);
      sum.row_norms.resize(rows);
      pool_.parallel_for((rows + kRows - 1) / kRows, [&](size_t item, int) {
        std::vector<float> x(n);
        for (uint64_t r = item * kRows; r < std::min<uint64_t>(rows, (item + 1) * kRows); ++r) {
          tensor->read_rows(r, 1, x.data());
          sum.row_norms[r] = static_cast<double>(kernels().dot(x.data(), x.data(), n));
        }
      });
      if (options.keeps_fisher) sum.fisher.resize(rows * n);
      if (options.keeps_gradient) sum.gradient.resize(rows * n);
      // A table and a head that are one matrix, and a head whose tokens come some at a time: squared when all is there.
      sum.is_whole_late = n_uses[tensor->name()] > 1 || tensor->name() == model.graph().ops.back().weight;
      sums_.emplace(tensor->name(), std::move(sum));
    }
    for (const Op& op : model.graph().ops)
      if (op.kind == OpKind::kEmbed && sums_.contains(op.weight)) sums_.at(op.weight).is_whole_late = true;
  }

  void begin(Mode mode) { mode_ = mode; }
  bool wants_vectors() const override { return true; }
  void on_linear(const Op& op, const float* x, const float* g, size_t n_tokens, size_t n_cols, size_t n_rows) override {
    add(op.weight, 0, x, g, n_tokens, n_cols, n_rows);
  }
  void on_expert(const Op& op, size_t expert, const float* x, const float* g, size_t n_tokens, size_t n_cols,
                 size_t n_rows) override {
    add(op.weight, expert * n_rows, x, g, n_tokens, n_cols, n_rows);
  }
  void on_rows(const Op& op, std::span<const TokenId> ids, const float* g, size_t width) override {
    const auto found = sums_.find(op.weight);
    if (found == sums_.end()) return;
    float* table = whole(found->second).data();
    for (size_t t = 0; t < ids.size(); ++t) {
      float* row = table + static_cast<size_t>(ids[t]) * width;
      kernels().add(row, g + t * width, row, width);
    }
  }

  // All of the window's gradients have come.
  void end_window() {
    for (auto& [name, sum] : sums_) {
      const size_t rows = sum.squares.size(), n = sum.tensor->n_cols();
      if (sum.is_whole_late && !sum.window.empty())
        pool_.parallel_for((rows + kRows - 1) / kRows, [&](size_t item, int) {
          const size_t first = item * kRows, count = std::min(kRows, rows - first);
          float* part = sum.window.data() + first * n;
          take(sum, first, count, part);
          std::fill_n(part, count * n, 0.0f);
        });
      if (mode_ == Mode::kSum) continue;
      double squares = 0, norm = 0, by_rows = 0;
      for (size_t r = 0; r < rows; ++r) {
        squares += sum.squares[r];
        norm += sum.row_norms[r];
        by_rows += sum.row_norms[r] * sum.squares[r];
        sum.squares[r] = 0;
      }
      sum.flat.push_back(norm / static_cast<double>(rows * n) * squares / 2);
      sum.rows.push_back(by_rows / static_cast<double>(n) / 2);
    }
  }

  GradientSensitivity result(const ModelTensor& tensor, double n_scored) {
    Sum& sum = sums_.at(tensor.name());
    GradientSensitivity s;
    s.tensor = &tensor;
    double squares = 0;
    for (double v : sum.flat) s.alpha += v / n_scored;
    for (double v : sum.rows) s.alpha_rows += v / n_scored;
    const auto n = static_cast<double>(sum.rows.size());
    for (double v : sum.rows)
      if (s.alpha_rows > 0) squares += std::pow(v * n / n_scored / s.alpha_rows - 1, 2);
    if (n > 1) s.spread = std::sqrt(squares / (n - 1) / n);
    for (auto* values : {&sum.fisher, &sum.gradient})
      for (float& v : *values) v = static_cast<float>(static_cast<double>(v) / n_scored);
    s.fisher = std::move(sum.fisher);
    s.gradient = std::move(sum.gradient);
    return s;
  }

 private:
  struct Sum {
    const ModelTensor* tensor = nullptr;
    bool is_whole_late = false;
    AlignedVector<float> window;             // the window's gradient, where it comes in parts
    std::vector<double> row_norms, squares;  // of the weights; of the window's gradient: by row
    std::vector<double> flat, rows;          // Σ over the window's scored tokens of both α
    AlignedVector<float> fisher, gradient;   // sums
  };

  static AlignedVector<float>& whole(Sum& sum) {
    if (sum.window.empty()) sum.window.resize(sum.squares.size() * sum.tensor->n_cols());
    return sum.window;
  }

  void add(const std::string& weight, size_t first_row, const float* x, const float* g, size_t n_tokens, size_t n_cols,
           size_t n_rows) {
    const auto found = sums_.find(weight);
    if (found == sums_.end()) return;
    Sum& sum = found->second;
    if (sum.is_whole_late) return linears_.weight(x, g, n_tokens, n_cols, n_rows, whole(sum).data() + first_row * n_cols, pool_);
    linears_.weight_rows(
        x, g, n_tokens, n_cols, n_rows,
        [&](size_t first, size_t n, const float* product) { take(sum, first_row + first, n, product); }, pool_);
  }

  // Rows of the window's gradient, each row once; on any thread.
  void take(Sum& sum, size_t first, size_t count, const float* product) const {
    const size_t n = sum.tensor->n_cols();
    if (mode_ == Mode::kSum) return kernels().add(sum.gradient.data() + first * n, product, sum.gradient.data() + first * n, count * n);
    for (size_t r = 0; r < count; ++r)
      sum.squares[first + r] += static_cast<double>(kernels().dot(product + r * n, product + r * n, n));
    if (sum.fisher.empty()) return;
    float* fisher = sum.fisher.data() + first * n;
    for (size_t i = 0; i < count * n; ++i) fisher[i] += product[i] * product[i];
  }

  ThreadPool& pool_;
  LinearGradient linears_;
  Mode mode_ = Mode::kSquares;
  std::map<std::string, Sum> sums_;
};

}  // namespace

std::vector<const ModelTensor*> sensitive_tensors(const Model& model) {
  std::vector<const ModelTensor*> tensors;
  std::set<std::string> seen;
  const auto take = [&](const std::string& name) {
    const ModelTensor& tensor = model.tensor(name);
    if (tensor.spec().quantizable && seen.insert(name).second) tensors.push_back(&tensor);
  };
  for (const Op& op : model.graph().ops)
    if (op.kind == OpKind::kEmbed) take(op.weight);
  for (const ReadGroup& group : read_groups(model.graph()))
    for (const Op* op : group.linears) take(op->weight);
  return tensors;
}

std::vector<GradientSensitivity> gradient_sensitivities(const Model& model, std::span<const std::vector<TokenId>> windows,
                                                        const GradientOptions& options, ThreadPool& pool, double* seconds,
                                                        double* text_seconds) {
  if (windows.empty() || windows.front().size() < 4)
    fail(ExitCode::kUsage, "{}: gradients need one window of at least 4 tokens", model.path());
  const size_t context = windows.front().size(), first_scored = context / 2;
  for (const auto& window : windows)
    if (window.size() != context)
      fail(ExitCode::kUsage, "{}: windows of {} and of {} tokens: gradients need one length", model.path(), context, window.size());
  auto start = std::chrono::steady_clock::now();
  WindowGradients sums(model, options, pool);
  Backward backward(model, pool);
  backward.keep_values(kKeptValues);
  const size_t n_vocab = backward.n_vocab();
  Progress progress("gradients", windows.size() * (options.keeps_gradient ? 2 : 1), "windows");
  for (size_t w = 0; w < windows.size(); ++w) {
    backward.run(
        std::span(windows[w]).first(context - 1), first_scored,
        [&](size_t first, size_t n, float* logits) {
          const auto labels = sample_targets(logits, n, n_vocab, options.seed, w, first, pool);
          return cross_entropy(labels, 1, logits, n_vocab, pool);
        },
        sums);
    sums.end_window();
    progress.advance(1);
  }
  if (seconds) *seconds = seconds_since(start);
  start = std::chrono::steady_clock::now();
  sums.begin(WindowGradients::Mode::kSum);
  for (size_t w = 0; w < windows.size() && options.keeps_gradient; ++w) {
    backward.run(
        std::span(windows[w]).first(context - 1), first_scored,
        [&](size_t first, size_t n, float* logits) {
          return cross_entropy(std::span(windows[w]).subspan(first + 1, n), 1, logits, n_vocab, pool);
        },
        sums);
    sums.end_window();
    progress.advance(1);
  }
  progress.finish();
  if (text_seconds) *text_seconds = options.keeps_gradient ? seconds_since(start) : 0;
  const auto n_scored = static_cast<double>((context - 1 - first_scored) * windows.size());
  std::vector<GradientSensitivity> all;
  for (const ModelTensor* tensor : sensitive_tensors(model)) all.push_back(sums.result(*tensor, n_scored));
  return all;
}

}  // namespace tsubu
