#include "round/coupled.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "base/aligned.h"
#include "base/error.h"
#include "base/progress.h"
#include "kernel/kernels.h"
#include "round/span.h"

namespace tsubu {
namespace {

constexpr size_t kColumns = 128;  // of one item
constexpr size_t kPad = 16;       // rows of a transposed matrix a power of two apart would share cache lines

// Rows of a matrix as columns: element (r, c) at [c * stride + r].
class Columns {
 public:
  Columns(size_t n_rows, size_t n) : n_(n), stride_((n_rows + kPad - 1) / kPad * kPad + kPad), data_(n * stride_) {}

  void set(const float* rows, size_t first, size_t n_rows, ThreadPool& pool) {
    pool.parallel_for((n_ + kColumns - 1) / kColumns, [&](size_t item, int) {
      for (size_t c = item * kColumns; c < std::min(n_, (item + 1) * kColumns); ++c)
        for (size_t r = 0; r < n_rows; ++r) data_[c * stride_ + first + r] = rows[r * n_ + c];
    });
  }
  // out (n_h, n) = h (n_h, n_rows; rows of ldh) · the matrix.
  void multiply(const float* h, size_t ldh, size_t n_h, size_t n_rows, float* out, ThreadPool& pool) const {
    pool.parallel_for((n_ + kColumns - 1) / kColumns, [&](size_t item, int) {
      const size_t c = item * kColumns, n = std::min(kColumns, n_ - c);
      kernels().gemm_nt(data_.data() + c * stride_, stride_, h, ldh, out + c, n_, n, n_h, n_rows);
    });
  }

 private:
  size_t n_, stride_;
  AlignedVector<float> data_;
};

// λ of coupled.h for rows [first, first + n) of h (n_rows × n_rows).
float group_bound(std::span<const float> h, size_t n_rows, size_t first, size_t n) {
  constexpr int kSteps = 40;
  constexpr double kMargin = 1.02;
  std::vector<double> c(n * n), v(n, 1.0), next(n);
  const auto at = [&](size_t r, size_t s) { return static_cast<double>(h[(first + r) * n_rows + first + s]); };
  double most = 1;
  for (size_t r = 0; r < n; ++r) {
    double sum = 0;
    for (size_t s = 0; s < n; ++s) {
      const double scale = std::sqrt(at(r, r) * at(s, s));
      c[r * n + s] = scale > 0 ? at(r, s) / scale : 0;
      sum += std::fabs(c[r * n + s]);
    }
    most = std::max(most, sum);
    v[r] = 1 + 0.01 * static_cast<double>(r);  // along no symmetry
  }
  double lambda = 1;
  for (int step = 0; step < kSteps; ++step) {
    double square = 0;
    for (size_t r = 0; r < n; ++r) {
      next[r] = 0;
      for (size_t s = 0; s < n; ++s) next[r] += c[r * n + s] * v[s];
      square += next[r] * next[r];
    }
    lambda = std::sqrt(square);
    if (!(lambda > 0)) return 1;
    for (size_t r = 0; r < n; ++r) v[r] = next[r] / lambda;
  }
  return static_cast<float>(std::clamp(kMargin * lambda, 1.0, most));
}

// One sweep's work on sixteen rows at a time that move under their whole form, where the type's span can.
class TogetherRows {
 public:
  TogetherRows(const TypeInfo& type, const Curvature& curvature, std::span<const float> h_out, size_t n_rows)
      : type_(type), c_(curvature), h_out_(h_out), n_rows_(n_rows), n_(curvature.n()), span_(make_span(type)),
        coupling_(kPanelRows * kPanelRows), product_(kPanelRows * kSpan), g_(kPanelRows * kSpan) {}

  bool can() { return span_->couple(nullptr, 1); }

  // y: Y of rows [first, first + rows), used up; residual: their w - ŵ, kept up to date; out: their encoded rows.
  void move(size_t first, size_t rows, float* y, float* residual, std::byte* out) {
    const auto form = [&](size_t r, size_t s) { return h_out_[(first + r) * n_rows_ + first + s]; };
    std::fill(coupling_.begin(), coupling_.end(), 0.0f);
    for (size_t r = 0; r < rows; ++r) {
      const float own = form(r, r);
      for (size_t s = 0; s < rows; ++s) coupling_[kPanelRows * s + r] = own > 0 ? form(r, s) / own : r == s ? 1.0f : 0.0f;
      for (size_t c = 0; c < n_; ++c) y[r * n_ + c] = own > 0 ? y[r * n_ + c] / own : residual[r * n_ + c];
    }
    span_->couple(coupling_.data(), group_bound(h_out_, n_rows_, first, rows));
    const size_t row_bytes = n_ / type_.block_len * type_.block_bytes;
    for (size_t col = 0; col < n_; col += kSpan) {
      const size_t n_cols = std::min<size_t>(kSpan, n_ - col), at = col / type_.block_len * type_.block_bytes;
      kernels().gemm_nt(c_.h() + col * n_, n_, y, n_, product_.data(), kSpan, n_cols, rows, n_);
      span_->place(col, n_cols);
      for (size_t l = 0; l < kPanelRows; ++l) {
        if (l < rows)
          span_->load(l, out + l * row_bytes + at);
        else
          span_->load_zeros(l);
        for (size_t j = 0; j < n_cols; ++j) g_[j * kPanelRows + l] = l < rows ? product_[l * kSpan + j] : 0.0f;
      }
      std::copy_n(span_->values(), n_cols * kPanelRows, product_.data());  // before
      span_->descend(g_.data(), c_, false);
      const float* value = span_->values();
      for (size_t l = 0; l < rows; ++l) span_->store(l, out + l * row_bytes + at);
      for (size_t j = 0; j < n_cols; ++j)
        for (size_t s = 0; s < rows; ++s) {
          const float change = value[j * kPanelRows + s] - product_[j * kPanelRows + s];
          if (change == 0) continue;
          residual[s * n_ + col + j] -= change;
          for (size_t r = 0; r < rows; ++r) y[r * n_ + col + j] -= coupling_[kPanelRows * s + r] * change;
        }
    }
  }

 private:
  const TypeInfo& type_;
  const Curvature& c_;
  std::span<const float> h_out_;
  size_t n_rows_, n_;
  std::unique_ptr<Span> span_;
  AlignedVector<float> coupling_, product_, g_;
};

}  // namespace

void refine_coupled(const float* w, size_t n_rows, const TypeInfo& type, const Curvature& curvature,
                    std::span<const float> h_out, const CoupledOptions& options, std::byte* out, ThreadPool& pool) {
  const size_t n = curvature.n(), row_bytes = n / type.block_len * type.block_bytes;
  if (h_out.size() != n_rows * n_rows)
    fail(ExitCode::kUsage, "a form of {} values couples {} rows", h_out.size(), n_rows);
  const size_t group = std::min(options.group_rows, n_rows);
  AlignedVector<float> target(group * n), residual(group * n);
  Columns residuals(n_rows, n);
  // w - ŵ of a group, into `residual` and into the columns.
  const auto measure = [&](size_t first, size_t rows) {
    pool.parallel_for(rows, [&](size_t r, int) {
      float* to = residual.data() + r * n;
      kernels().decode[type.index](out + (first + r) * row_bytes, to, n);
      for (size_t c = 0; c < n; ++c) to[c] = w[(first + r) * n + c] - to[c];
    });
    residuals.set(residual.data(), first, rows, pool);
  };
  for (size_t first = 0; first < n_rows; first += group) measure(first, std::min(group, n_rows - first));

  TogetherRows together(type, curvature, h_out, n_rows);
  const bool exact = group <= kPanelRows && group > 1 && together.can();
  RoundOptions round;
  round.descent_passes = 1;
  for (int sweep = 0; sweep < options.sweeps; ++sweep) {
    for (size_t first = 0; first < n_rows; first += group) {
      throw_if_interrupted();
      const size_t rows = std::min(group, n_rows - first);
      residuals.multiply(h_out.data() + first * n_rows, n_rows, rows, n_rows, target.data(), pool);
      if (exact) {
        pool.parallel_for(rows, [&](size_t r, int) {
          float* to = residual.data() + r * n;
          kernels().decode[type.index](out + (first + r) * row_bytes, to, n);
          for (size_t c = 0; c < n; ++c) to[c] = w[(first + r) * n + c] - to[c];
        });
        together.move(first, rows, target.data(), residual.data(), out + first * row_bytes);
        residuals.set(residual.data(), first, rows, pool);
        continue;
      }
      const float lambda = group_bound(h_out, n_rows, first, rows);
      pool.parallel_for(rows, [&](size_t r, int) {
        const float bound = lambda * h_out[(first + r) * n_rows + first + r];
        float* t = target.data() + r * n;
        float* start = residual.data() + r * n;  // the encoded row
        kernels().decode[type.index](out + (first + r) * row_bytes, start, n);
        const float* own = w + (first + r) * n;
        for (size_t c = 0; c < n; ++c) t[c] = bound > 0 ? start[c] + t[c] / bound : own[c];
      });
      refine_rows(target.data(), rows, type, curvature, round, out + first * row_bytes, pool);
      measure(first, rows);
    }
  }
}

void damp_output_form(std::span<float> h_out, double share) {
  const auto n = static_cast<size_t>(std::lround(std::sqrt(static_cast<double>(h_out.size()))));
  double trace = 0;
  for (size_t i = 0; i < n; ++i) trace += static_cast<double>(h_out[i * n + i]);
  for (size_t i = 0; i < n; ++i) h_out[i * n + i] += static_cast<float>(share * trace / static_cast<double>(n));
}

double coupled_product(std::span<const float> h_out, const float* a, const float* b, size_t n_rows, size_t n,
                       ThreadPool& pool) {
  constexpr size_t kRows = 96;
  Columns columns(n_rows, n);
  columns.set(a, 0, n_rows, pool);
  AlignedVector<float> product(std::min(kRows, n_rows) * n);
  double sum = 0;
  for (size_t first = 0; first < n_rows; first += kRows) {
    const size_t rows = std::min(kRows, n_rows - first);
    columns.multiply(h_out.data() + first * n_rows, n_rows, rows, n_rows, product.data(), pool);
    for (size_t r = 0; r < rows; ++r)
      sum += static_cast<double>(kernels().dot(product.data() + r * n, b + (first + r) * n, n));
  }
  return sum;
}

}  // namespace tsubu
