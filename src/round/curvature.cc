#include "round/curvature.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "kernel/grid_panel.h"
#include "kernel/kernels.h"

namespace tsubu {
namespace {

constexpr size_t kBlock = 64;
constexpr int kDampingTries = 5;

// Cholesky of a (n × n, lower triangle used and overwritten), blocked; false when a pivot is not positive.
bool cholesky(std::vector<double>& a, size_t n, ThreadPool& pool) {
  std::vector<double> panel_transposed;
  for (size_t k0 = 0; k0 < n; k0 += kBlock) {
    const size_t nb = std::min(kBlock, n - k0);
    double* diagonal = a.data() + k0 * n + k0;
    for (size_t j = 0; j < nb; ++j) {
      double pivot = diagonal[j * n + j];
      for (size_t k = 0; k < j; ++k) pivot -= diagonal[j * n + k] * diagonal[j * n + k];
      if (!(pivot > 0)) return false;
      const double root = std::sqrt(pivot);
      diagonal[j * n + j] = root;
      for (size_t i = j + 1; i < nb; ++i) {
        double sum = diagonal[i * n + j];
        for (size_t k = 0; k < j; ++k) sum -= diagonal[i * n + k] * diagonal[j * n + k];
        diagonal[i * n + j] = sum / root;
      }
    }
    const size_t first = k0 + nb, rest = n - first;
    if (rest == 0) break;
    panel_transposed.resize(nb * rest);
    const size_t n_tiles = (rest + kBlock - 1) / kBlock;
    pool.parallel_for(n_tiles, [&](size_t tile, int) {
      const size_t end = std::min(n, first + (tile + 1) * kBlock);
      for (size_t i = first + tile * kBlock; i < end; ++i) {
        double* row = a.data() + i * n + k0;
        for (size_t j = 0; j < nb; ++j) {
          double sum = row[j];
          for (size_t k = 0; k < j; ++k) sum -= row[k] * diagonal[j * n + k];
          row[j] = sum / diagonal[j * n + j];
          panel_transposed[j * rest + i - first] = row[j];
        }
      }
    });
    pool.parallel_for(n_tiles * (n_tiles + 1) / 2, [&](size_t item, int) {
      size_t i = 0;
      while ((i + 1) * (i + 2) / 2 <= item) ++i;
      const size_t j = item - i * (i + 1) / 2;
      const size_t row = first + i * kBlock, col = first + j * kBlock;
      kernels().subtract_product(a.data() + row * n + col, n, a.data() + row * n + k0, n,
                                 panel_transposed.data() + col - first, rest, std::min(kBlock, n - row),
                                 std::min(kBlock, n - col), nb);
    });
  }
  return true;
}

}  // namespace

Curvature::Curvature(AlignedVector<float> gram, size_t n, uint64_t n_tokens, double damping, ThreadPool& pool)
    : n_(n), damping_(damping), h_(std::move(gram)), pivots_(n), diagonal_(n) {
  if (h_.size() != n * n || n_tokens == 0)
    fail(ExitCode::kNumeric, "a Gram matrix of {} values for {} columns and {} tokens", h_.size(), n, n_tokens);
  const float per_token = 1.0f / static_cast<float>(n_tokens);
  double trace = 0;
  for (float& v : h_) v *= per_token;
  for (size_t i = 0; i < n; ++i) trace += static_cast<double>(h_[i * n + i]);
  double mean = trace / static_cast<double>(n);
  if (!std::isfinite(mean)) fail(ExitCode::kNumeric, "the Gram matrix of an input is not finite: the model is damaged, or its activations overflow");
  if (mean <= 0) mean = 1;  // an input that was never active: the plain squared error
  double added = 0;
  for (int attempt = 0; attempt < kDampingTries; ++attempt, damping_ = std::max(1e-6, 10 * damping_)) {
    const double wanted = damping_ * mean;
    for (size_t i = 0; i < n; ++i) h_[i * n + i] += static_cast<float>(wanted - added);
    added = wanted;
    if (!factor(pool)) continue;
    lambda_ = static_cast<float>(wanted);
    for (size_t i = 0; i < n; ++i) diagonal_[i] = h_[i * n + i];
    return;
  }
  fail(ExitCode::kNumeric, "a Gram matrix that has no Cholesky factor, even with {} of its mean diagonal added",
       damping_ / 10);
}

// With rows and columns reversed, H = M D Mᵀ is an ordinary Cholesky factorization.
bool Curvature::factor(ThreadPool& pool) {
  std::vector<double> a(n_ * n_);
  for (size_t i = 0; i < n_; ++i)
    for (size_t j = 0; j <= i; ++j) a[i * n_ + j] = static_cast<double>(h_[(n_ - 1 - i) * n_ + n_ - 1 - j]);
  if (!cholesky(a, n_, pool)) return false;
  m_.resize(n_ * n_);
  for (size_t j = 0; j < n_; ++j) {
    const size_t col = n_ - 1 - j;
    const double root = a[j * n_ + j];
    pivots_[col] = static_cast<float>(root * root);
    m_[col * n_ + col] = 1;
    for (size_t i = j + 1; i < n_; ++i) {
      const size_t row = n_ - 1 - i;
      const float value = static_cast<float>(a[i * n_ + j] / root);
      m_[row * n_ + col] = value;
      m_[col * n_ + row] = value;
    }
  }
  return true;
}

void Curvature::solve(float* b, size_t n_rows, ThreadPool& pool) const {
  constexpr size_t kRows = kPanelRows;
  struct Scratch {
    std::vector<float> moved, panel;
  };
  std::vector<Scratch> scratch(static_cast<size_t>(pool.size()));
  pool.parallel_for((n_rows + kRows - 1) / kRows, [&](size_t item, int worker) {
    Scratch& s = scratch[static_cast<size_t>(worker)];
    s.moved.resize(kRows * kSpan);
    s.panel.resize(kRows * kSpan);
    const size_t rows = std::min(kRows, n_rows - item * kRows);
    float* x = b + item * kRows * n_;
    // x_span -= others · part of M, then the triangle of the span itself.
    const auto span = [&](size_t first, const float* part, size_t others_first, size_t n_others, bool transposed) {
      const size_t n = std::min<size_t>(kSpan, n_ - first);
      if (n_others > 0) kernels().gemm_nt(part, n_, x + others_first, n_, s.moved.data(), kSpan, n, rows, n_others);
      for (size_t c = 0; c < n; ++c)
        for (size_t r = 0; r < kRows; ++r) {
          float v = r < rows ? x[r * n_ + first + c] : 0.0f;
          if (r < rows && n_others > 0) v -= s.moved[r * kSpan + c];
          s.panel[c * kRows + r] = v;
        }
      const float* triangle = m_.data() + first * n_ + first;
      if (transposed)
        kernels().solve_unit_upper_transposed(s.panel.data(), triangle, n_, n);
      else
        kernels().solve_unit_upper(s.panel.data(), triangle, n_, n);
      for (size_t c = 0; c < n; ++c)
        for (size_t r = 0; r < rows; ++r) x[r * n_ + first + c] = s.panel[c * kRows + r];
    };
    // y Mᵀ = b, then x M = y / D.
    for (size_t first = (n_ - 1) / kSpan * kSpan + kSpan; first > 0;) {
      first -= kSpan;
      const size_t after = std::min(n_, first + kSpan);
      span(first, m_.data() + first * n_ + after, after, n_ - after, true);
    }
    for (size_t r = 0; r < rows; ++r)
      for (size_t c = 0; c < n_; ++c) x[r * n_ + c] /= pivots_[c];
    for (size_t first = 0; first < n_; first += kSpan) span(first, m_.data() + first * n_, 0, first, false);
  });
}

}  // namespace tsubu
