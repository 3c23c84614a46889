#include "round/sim_round.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "base/error.h"
#include "base/progress.h"
#include "kernel/kernels.h"
#include "round/sim_descent.h"
#include "round/sim_rows.h"
#include "round/sim_scales.h"

namespace tsubu {
namespace {

constexpr size_t kItemRows = 64;  // rows that share a product with H or M
constexpr size_t kShortlist = 8;  // candidates that are tried with their own feedback

class SimRounder {
 public:
  SimRounder(const float* w, size_t n_rows, size_t n_cols, const SimFormat& format, const SimMethod& method,
             std::span<const float> importance, const Curvature* curvature, float* out, ThreadPool& pool,
             SimStored* stored, float tensor_absmax)
      : w_(w),
        n_rows_(n_rows),
        n_(n_cols),
        f_(format),
        method_(method),
        importance_(importance),
        c_(curvature),
        out_(out),
        pool_(pool),
        stored_(stored),
        absmax_(tensor_absmax),
        shape_(format, n_cols) {}

  void run() {
    float absmax = absmax_;
    for (size_t i = 0; absmax_ == 0 && i < n_rows_ * n_; ++i) absmax = std::max(absmax, std::fabs(w_[i]));
    tensor_scale_ = tensor_scale_for(f_, absmax);
    if (stored_) {
      stored_->levels.resize(n_rows_ * n_);
      stored_->groups.resize(n_rows_ * shape_.n_groups);
      stored_->tensor_scale = tensor_scale_;
    }
    if (!f_.has_tables() && (f_.granularity == SimGranularity::kTensor || f_.double_quantized)) fix_groups();
    std::vector<std::unique_ptr<Scratch>> scratch(static_cast<size_t>(pool_.size()));
    pool_.parallel_for((n_rows_ + kItemRows - 1) / kItemRows, [&](size_t item, int worker) {
      throw_if_interrupted();
      auto& s = scratch[static_cast<size_t>(worker)];
      if (!s) s = std::make_unique<Scratch>(f_, n_, kItemRows);
      const size_t first = item * kItemRows, rows = std::min(kItemRows, n_rows_ - first);
      SimRows& r = s->rows;
      r.n_rows = rows;
      r.w = w_ + first * n_;
      r.out = out_ + first * n_;
      round_item(*s, first);
      const SimDescent descent(f_, shape_, tensor_scale_, !fixed_.empty(), c_);
      for (int pass = 0; pass < method_.descent_passes; ++pass) descent.pass(r, s->product, s->direction, s->change);
      if (!stored_) return;
      for (size_t row = 0; row < rows; ++row) {
        std::copy_n(r.levels(row), n_, stored_->levels.data() + (first + row) * n_);
        for (size_t g = 0; g < shape_.n_groups; ++g)
          stored_->groups[(first + row) * shape_.n_groups + g] = r.group(row, g);
      }
    });
  }

 private:
  struct Scratch {
    SimRows rows;
    std::vector<float> product, direction, change, t, trial;
    Scratch(const SimFormat& f, size_t n, size_t item_rows) : rows(f, n, item_rows), t(n), trial(n) {}
  };

  bool feeds_back() const { return method_.start == SimStart::kGptq || method_.start == SimStart::kGptqPlain; }

  SimGroup fit(std::span<const float> x, std::span<const float> weight) const {
    switch (method_.start) {
      case SimStart::kNearest:
      case SimStart::kPower:
      case SimStart::kGptqPlain:
        return fit_nearest(f_, x, tensor_scale_);
      case SimStart::kSearch:
      case SimStart::kGptq:
        return fit_search(f_, x, weight, tensor_scale_);
      case SimStart::kHqq:
        return fit_hqq(f_, x, tensor_scale_);
    }
    return {};
  }

  std::span<const float> importance(size_t first, size_t n) const {
    return importance_.empty() ? importance_ : importance_.subspan(first, n);
  }

  // Scales that depend on the whole tensor.
  void fix_groups() {
    if (f_.granularity == SimGranularity::kTensor) {
      fixed_ = {fit({w_, n_rows_ * n_}, importance_)};
      return;
    }
    fixed_.resize(f_.n_groups(n_rows_, n_));
    pool_.parallel_for(n_rows_, [&](size_t row, int) {
      for (size_t g = 0; g < shape_.n_groups; ++g)
        fixed_[row * shape_.n_groups + g] =
            fit({w_ + row * n_ + shape_.begin(g), shape_.length(g)}, importance(shape_.begin(g), shape_.length(g)));
    });
    DoubleQuantized nested = double_quantize(fixed_);
    if (stored_) stored_->nested = std::move(nested);
  }

  void round_item(Scratch& s, size_t first) {
    SimRows& r = s.rows;
    for (size_t row = 0; row < r.n_rows; ++row)
      for (size_t g = 0; g < shape_.n_groups; ++g) {
        const std::span<const float> x(r.w + row * n_ + shape_.begin(g), shape_.length(g));
        const auto weight = importance(shape_.begin(g), shape_.length(g));
        if (f_.has_tables()) {
          const auto table = fit_table(f_, x, method_.start == SimStart::kNearest ? std::span<const float>() : weight);
          std::copy(table.begin(), table.end(), r.table(row, g));
        } else if (!fixed_.empty()) {
          r.group(row, g) = fixed_.size() == 1 ? fixed_[0] : fixed_[(first + row) * shape_.n_groups + g];
        } else if (!feeds_back() || shape_.length(g) > kLongestEntry) {
          r.group(row, g) = fit(x, weight);
        }
        if (!feeds_back()) round_group(r, row, g, x);
      }
    if (feeds_back()) feed_item(s);
  }

  void round_group(SimRows& r, size_t row, size_t g, std::span<const float> x) const {
    const SimGrid grid = r.grid(row, g);
    float* level = r.levels(row) + shape_.begin(g);
    float* value = r.out + row * n_ + shape_.begin(g);
    const SimGroup group = r.group(row, g);
    for (size_t j = 0; j < x.size(); ++j) {
      level[j] = method_.start == SimStart::kPower ? root_level(x[j], group) : grid.level(x[j]);
      value[j] = grid.value(level[j]);
    }
  }

  // The level whose root is nearest to the root of x / scale.
  float root_level(float x, SimGroup group) const {
    if (group.scale == 0) return 0;
    const double t = static_cast<double>(x / group.scale), last = static_cast<double>((1 << (f_.code_bits - 1)) - 1);
    const double q = std::min(last, std::nearbyint(std::pow(std::fabs(t), 1 / f_.exponent)));
    return std::copysign(f_.levels[f_.levels.size() / 2 + static_cast<size_t>(q)], x);
  }

  void feed_item(Scratch& s) {
    SimRows& r = s.rows;
    s.product.resize(kItemRows * shape_.span);
    for (size_t col = 0; col < n_; col += shape_.span) {
      const size_t n_cols = std::min(shape_.span, n_ - col);
      if (col > 0) {
        r.load_residual(0, col);
        kernels().gemm_nt(c_->m() + col * n_, n_, r.residual.data(), n_, s.product.data(), shape_.span, n_cols,
                          r.n_rows, col);
      }
      for (size_t row = 0; row < r.n_rows; ++row) {
        for (size_t j = 0; j < n_cols; ++j)
          s.t[j] = r.w[row * n_ + col + j] + (col > 0 ? s.product[row * shape_.span + j] : 0.0f);
        for (size_t j = col; j < col + n_cols;) {
          const size_t g = shape_.group_of(j), end = std::min(shape_.end(g), col + n_cols);
          const bool enters = !f_.has_tables() && fixed_.empty() && shape_.length(g) <= kLongestEntry;
          float* t = s.t.data() + j - col;
          if (enters) r.group(row, g) = enter(s, t, r.w + row * n_ + j, j, end - j);
          feed(r.grid(row, g), t, r.w + row * n_ + j, r.levels(row) + j, r.out + row * n_ + j, j, end - j,
               col + n_cols - j);
          j = end;
        }
      }
    }
  }

  // Rounds n columns from col on in order, moving the targets of the n_reach columns from col on; returns what they
  // leave of the form.
  double feed(const SimGrid& grid, float* t, const float* w, float* level, float* value, size_t col, size_t n,
              size_t n_reach) const {
    const float* m = c_->m() + col * n_ + col;
    double form = 0;
    for (size_t j = 0; j < n; ++j) {
      const float l = grid.level(t[j]), v = grid.value(l);
      if (level) level[j] = l;
      if (value) value[j] = v;
      const float e = t[j] - v;
      form += static_cast<double>(e * e * c_->pivots()[col + j]);
      kernels().axpy(w[j] - v, m + j * n_ + j + 1, t + j + 1, n_reach - j - 1);
    }
    return form;
  }

  SimGroup enter(Scratch& s, const float* t, const float* w, size_t col, size_t n) const {
    const std::span<const float> x(t, n);
    if (method_.start == SimStart::kGptqPlain) return fit_nearest(f_, x, tensor_scale_);
    const auto weight = c_->pivots().subspan(col, n);
    std::vector<std::pair<double, SimGroup>> ranked;
    for (const SimGroup& g : fit_candidates(f_, x, weight, tensor_scale_))
      ranked.emplace_back(fit_error(f_, g, x, weight), g);
    std::stable_sort(ranked.begin(), ranked.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    if (ranked.size() > kShortlist) ranked.resize(kShortlist);
    SimGroup best = ranked.front().second;
    double least = 0;
    for (size_t i = 0; i < ranked.size(); ++i) {
      std::copy(x.begin(), x.end(), s.trial.begin());
      const double form = feed(SimGrid(f_, ranked[i].second), s.trial.data(), w, nullptr, nullptr, col, n, n);
      if (i > 0 && form >= least) continue;
      least = form;
      best = ranked[i].second;
    }
    return best;
  }

  const float* w_;
  size_t n_rows_, n_;
  const SimFormat& f_;
  const SimMethod& method_;
  std::span<const float> importance_;
  const Curvature* c_;
  float* out_;
  ThreadPool& pool_;
  SimStored* stored_;
  float absmax_;
  SimShape shape_;
  float tensor_scale_ = 1;
  std::vector<SimGroup> fixed_;  // by row and group, or one for the tensor; empty: each row has its own
};

}  // namespace

std::string_view refusal(const SimFormat& format, const SimMethod& method) {
  if (method.start == SimStart::kPower && format.family != "power") return "the root-domain rule is for power formats";
  if (method.start == SimStart::kHqq && format.has_tables()) return "hqq moves zeros and scales, and a table has none";
  return {};
}

void sim_round(const float* w, size_t n_rows, size_t n_cols, const SimFormat& format, const SimMethod& method,
               std::span<const float> importance, const Curvature* curvature, float* out, ThreadPool& pool,
               SimStored* stored, float tensor_absmax) {
  if (const auto reason = refusal(format, method); !reason.empty())
    fail(ExitCode::kUnsupported, "format {}: {}", format.name(), reason);
  if (method.needs_curvature() && (!curvature || curvature->n() != n_cols))
    fail(ExitCode::kUnsupported, "error feedback and descent need the Gram matrix of {} columns", n_cols);
  SimRounder(w, n_rows, n_cols, format, method, importance, curvature, out, pool, stored, tensor_absmax).run();
}

double sim_form_error(const float* w, const float* values, size_t n_rows, const Curvature& curvature,
                      ThreadPool& pool) {
  const size_t n = curvature.n();
  std::vector<double> sums((n_rows + kItemRows - 1) / kItemRows);
  pool.parallel_for(sums.size(), [&](size_t item, int) {
    const size_t first = item * kItemRows, rows = std::min(kItemRows, n_rows - first);
    std::vector<float> residual(rows * n), product(rows * n);
    for (size_t i = 0; i < rows * n; ++i) residual[i] = w[first * n + i] - values[first * n + i];
    kernels().gemm_nt(curvature.h(), n, residual.data(), n, product.data(), n, n, rows, n);
    for (size_t r = 0; r < rows; ++r)
      sums[item] += static_cast<double>(kernels().dot(residual.data() + r * n, product.data() + r * n, n));
  });
  double sum = 0;
  for (double v : sums) sum += v;
  return sum;
}

}  // namespace tsubu
